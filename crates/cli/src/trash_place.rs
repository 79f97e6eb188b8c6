//! `--trash PLACE`: what is displaced is kept at another place, and found there again later.
//!
//! Invariant: a place that ever took a session's trash is remembered with the session's state before anything goes there.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Name, Pair, RelPath, Result, Side};
use syncline_replica::{Elsewhere, Replica, TrashElsewhere};
use syncline_store::layers::{Meter, Rate};

use crate::open::{How, World};
use crate::place::{At, Place, of_option, shown};
use crate::roots::{self, Root};

const PLACES: &str = "trash-places";

/// The places that hold trash, opened; the first is where it goes, if `goes`.
struct Held {
    places: Vec<Arc<dyn Replica>>,
    goes: bool,
    meters: Vec<Meter>,
}

impl World {
    /// Both sides, with their trash where it goes and where it lies.
    pub async fn with_trash(
        &self,
        sides: Pair<Arc<dyn Replica>>,
        places: &Pair<Place>,
        state: &Path,
        how: &How,
        meters: &mut Vec<Meter>,
    ) -> Result<Pair<Arc<dyn Replica>>> {
        let mut held = self.trash_places(places, state, how).await?;
        if held.places.is_empty() {
            return Ok(sides);
        }
        meters.append(&mut held.meters);
        let session = state.file_name().unwrap_or_default();
        let name = |text: &OsStr| {
            let bytes = std::os::unix::ffi::OsStrExt::as_bytes(text);
            Name::new(bytes).map_err(|bad| Fault::new(Kind::Bug, bad.to_string(), shown(text)))
        };
        let top = RelPath::from(name(session)?);
        let mut wrapped = Vec::new();
        for side in Side::BOTH {
            let below = top.join(&name(OsStr::new(side.name()))?);
            let mut found: Vec<Elsewhere> = held
                .places
                .iter()
                .map(|place| Elsewhere {
                    place: Arc::clone(place),
                    below: below.clone(),
                })
                .collect();
            let goes = held.goes.then(|| found.remove(0));
            let inner = Arc::clone(&sides[side]);
            let replica: Arc<dyn Replica> = Arc::new(TrashElsewhere {
                inner,
                goes,
                lies: found,
            });
            wrapped.push(replica);
        }
        match <[_; 2]>::try_from(wrapped) {
            Ok([left, right]) => Ok(Pair::new(left, right)),
            Err(_) => Err(Fault::new(Kind::Bug, "a session has two sides", "")),
        }
    }

    async fn trash_places(&self, places: &Pair<Place>, state: &Path, how: &How) -> Result<Held> {
        let file = state.join(PLACES);
        let known = self.files.read(&file)?.map(|text| text.bytes).unwrap_or_default();
        let known = String::from_utf8_lossy(&known).into_owned();
        let mut texts: Vec<String> = known.lines().map(str::to_owned).collect();
        let mut goes = false;
        if let Some(text) = &how.trash {
            let place = self.place(text.as_ref()).map_err(of_option("--trash"))?;
            apart(self, &place, places)?;
            let text = place
                .text
                .to_str()
                .ok_or_else(|| Fault::new(Kind::Invalid, "the trash's place is named in UTF-8", text))?
                .to_owned();
            goes = true;
            let before = texts.clone();
            texts.retain(|known| *known != text);
            texts.insert(0, text);
            if !how.look_only && texts != before {
                let lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
                self.files.write(&file, lines.as_bytes())?;
            }
        }
        let mut held = Held {
            places: Vec::new(),
            goes,
            meters: Vec::new(),
        };
        for (number, text) in texts.iter().enumerate() {
            let wanted = how.finds_trash || (goes && number == 0);
            match self.trash_place(text, state, number, how).await {
                Ok((place, meter)) => {
                    held.places.push(place);
                    held.meters.push(meter);
                }
                // Who only looks makes no directory for it.
                Err(fault)
                    if goes
                        && number == 0
                        && how.look_only
                        && fault.is(Kind::NotFound)
                        && is_local(self, text) =>
                {
                    held.goes = false;
                }
                // Where only old trash lies does not stop a sync.
                Err(_) if !wanted => {}
                Err(fault) if goes && number == 0 => return Err(of_option("--trash")(fault)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(held)
    }

    async fn trash_place(
        &self,
        text: &str,
        state: &Path,
        number: usize,
        how: &How,
    ) -> Result<(Arc<dyn Replica>, Meter)> {
        let place = self.place(text.as_ref())?;
        match &place.at {
            At::Local(path) => {
                if number == 0 && how.trash.is_some() && !how.look_only {
                    self.files.make_last(path, 0o700)?;
                }
                self.open_one(&place).await
            }
            At::Bucket(url, store) => {
                let rate = Rate::new(Arc::clone(&self.env.clock), how.bandwidth);
                let name = &blake3::hash(url.as_bytes()).to_hex()[..16];
                let home = state.join(format!("trash-bucket-{name}"));
                // What is noted of old trash is found again by looking.
                let (replica, meter, _) = self.bucket(url, store.as_deref(), Some(&home), rate).await?;
                Ok((replica, meter))
            }
        }
    }
}

fn is_local(world: &World, text: &str) -> bool {
    world
        .place(text.as_ref())
        .is_ok_and(|place| place.dir().is_some())
}

/// Trash that lay within a place would be synced itself.
fn apart(world: &World, trash: &Place, places: &Pair<Place>) -> Result<()> {
    for side in Side::BOTH {
        let place = &places[side];
        roots::buckets_apart(trash, place)?;
        let (Some(a), Some(b)) = (trash.dir(), place.dir()) else {
            continue;
        };
        let a = Root::look(&world.files, a).map_err(of_option("--trash"))?.path;
        if a.starts_with(b) || b.starts_with(&a) {
            let what = format!("{} and {} lie within each other", trash.label(), place.label());
            return Err(Fault::new(Kind::Invalid, what, "--trash").hint("name a place outside of both sides"));
        }
    }
    Ok(())
}
