//! Plans: written down, and carried out as they were written.

use std::path::Path;

use syncline_model::{Fault, Kind, Result};
use syncline_sync::{Options, Stop};

use super::{Done, Open};
use crate::intent::Once;
use crate::open::World;
use crate::render::Face;

pub async fn write(_: &World, _: &Open, _: &Options, _: &Path, _: &dyn Face) -> Result<Done> {
    Err(Fault::new(Kind::Unsupported, "plans are not in this build", ""))
}

pub async fn apply(_: &World, _: &Path, _: Once, _: &dyn Face, _: &Stop) -> Result<Done> {
    Err(Fault::new(Kind::Unsupported, "plans are not in this build", ""))
}
