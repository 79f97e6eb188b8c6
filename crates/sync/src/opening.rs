//! A session on this machine's disks: where its table and its files lie.
//!
//! Invariant: damaged tables are never deleted, only put aside; the next run rebuilds the base by content.

use std::collections::HashSet;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Pair, Result, Side};
use syncline_store::disk::Make;
use syncline_store::os::OsDisk;
use syncline_store::{Disk, FjallTable, Place, Sync, Table};

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
        let path = places.state.join(TABLES);
        let table: Arc<dyn Table> = match FjallTable::open(&path) {
            Ok(table) => Arc::new(table),
            Err(fault) if fault.is(Kind::Corrupt) => {
                put_aside(&*disk, &dir, &fault)?;
                Arc::new(FjallTable::open(&path)?)
            }
            Err(fault) => return Err(fault),
        };
        Self::over(places.sides, table, Arc::new(DiskShelf::new(disk, dir)?), env)
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

/// Damaged tables get another name, for whoever wants to look at them.
fn put_aside<D: Disk>(disk: &D, dir: &D::Dir, fault: &Fault) -> Result<()> {
    for number in 1..1000 {
        let name = format!("{TABLES}.damaged-{number}");
        match disk.place((dir, TABLES.as_bytes()), (dir, name.as_bytes()), Place::New) {
            Ok(()) => {
                disk.make(dir, TABLES.as_bytes(), Make::Dir)?;
                return disk.sync(Sync::Dir(dir));
            }
            Err(taken) if taken.is(Kind::Exists) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Fault::new(
        Kind::Corrupt,
        format!("the state tables are damaged: {fault}"),
        "",
    )
    .hint("remove old tables.damaged-* from the session's state directory"))
}
