//! A session on this machine's disks: where its table and its files lie.
//!
//! Invariant: damaged tables are never deleted, only put aside; the next run rebuilds the base by content.

use std::collections::HashSet;
use std::sync::Arc;

use syncline_model::{Kind, Pair, Result, Side};
use syncline_store::disk::Make;
use syncline_store::os::OsDisk;
use syncline_store::{Disk, FjallTable};

use crate::api::{Env, Places};
use crate::session::Session;
use crate::shelf::DiskShelf;

const TABLES: &str = "tables";

impl Session {
    /// Opens the session whose state lies in `places.state`, which exists and is ours alone.
    pub async fn open(places: Places, env: Env) -> Result<Self> {
        let disk = Arc::new(OsDisk::new());
        let dir = disk.root(&places.state)?;
        match disk.make(&dir, TABLES.as_bytes(), Make::Dir) {
            Err(fault) if fault.is(Kind::Exists) => {}
            made => made?,
        }
        let (table, aside) = FjallTable::open_whole(&places.state.join(TABLES))?;
        let session = Self::over(
            places.sides,
            Arc::new(table),
            Arc::new(DiskShelf::new(disk, dir)?),
            env,
        )?;
        if let Some(aside) = aside.filter(|_| session.base.lost().is_ok_and(|lost| lost.is_some())) {
            session
                .base
                .note_lost(&format!("was damaged; {}", aside.display()))?;
        }
        Ok(session)
    }

    /// Ends the binding: the trash goes when asked, and at places that no other session of ours uses (`last`) our part in them. Says where
    /// nobody is known to be left. The caller then removes the state directory.
    pub async fn leave(self, empty_trash: bool, last: Pair<bool>) -> Result<Pair<bool>> {
        if empty_trash {
            // What other sessions displaced at these places is theirs.
            let ours: HashSet<_> = self.shelf.runs()?.into_iter().collect();
            self.empty_trash_of(|run| ours.contains(run)).await?;
        }
        let _last = self.begin()?;
        let mut alone = Pair::default();
        for side in Side::BOTH {
            if last[side] && !self.sides[side].profile().read_only {
                alone[side] = self.sides[side].leave().await?;
            }
        }
        Ok(alone)
    }
}
