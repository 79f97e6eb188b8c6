//! `.syncline/` in a root: the marker that says who answers there, the clock, the lock.
//!
//! Invariant: a file here is whole or not there: written under another name, flushed, renamed, the directory flushed.
//! The directory is open to its owner only. One process at a time holds the lock; the kernel gives it back when its
//! holder dies, so it is never stale.

use serde::{Deserialize, Serialize};
use syncline_model::replica::OWN_DIR;
use syncline_model::{Fault, Kind, Marker, Result, Time};
use syncline_store::disk::Make;
use syncline_store::{Disk, Place, Sync};

const MARKER: &[u8] = b"marker.json";
const LOCK: &[u8] = b"lock";
const HOLDER: &[u8] = b"lock.json";
/// Longest file of ours that is read into memory.
const SMALL: u64 = 1 << 20;

/// Who holds a root, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it took the lock, in seconds since 1970 by that host's clock.
    pub since: i64,
}

/// Opens the directory `name` in `at`, made if it is not there; true when it was made now.
pub(crate) fn make_dir<D: Disk>(disk: &D, at: &D::Dir, name: &[u8]) -> Result<(D::Dir, bool)> {
    match disk.open_dir(at, name) {
        Ok(dir) => return Ok((dir, false)),
        Err(fault) if fault.is(Kind::NotFound) => {}
        Err(fault) => return Err(fault),
    }
    let made = match disk.make(at, name, Make::Dir) {
        Ok(()) => true,
        Err(fault) if fault.is(Kind::Exists) => false,
        Err(fault) => return Err(fault),
    };
    Ok((disk.open_dir(at, name)?, made))
}

/// `.syncline` in `root`, made if it is not there.
pub(crate) fn own_dir<D: Disk>(disk: &D, root: &D::Dir) -> Result<(D::Dir, bool)> {
    make_dir(disk, root, OWN_DIR.as_bytes()).map_err(|fault| match fault.kind {
        Kind::Changed => fault
            .at(OWN_DIR)
            .hint("remove what bears the name .syncline there and is no directory"),
        _ => fault.at(OWN_DIR),
    })
}

/// A small file of ours; `None` when it is not there.
pub(crate) fn read_small<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(dir, name, false) {
        Ok(file) => file,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let size = disk.stat_file(&file)?.size;
    if size > SMALL {
        return Err(Fault::new(
            Kind::Corrupt,
            "far too long",
            String::from_utf8_lossy(name),
        ));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut have = 0;
    while have < bytes.len() {
        match disk.read(&file, have as u64, &mut bytes[have..])? {
            0 => break,
            got => have += got,
        }
    }
    bytes.truncate(have);
    Ok(Some(bytes))
}

/// Puts a small file of ours in place, whole; durably if asked.
pub(crate) fn write_small<D: Disk>(
    disk: &D,
    dir: &D::Dir,
    name: &[u8],
    bytes: &[u8],
    durable: bool,
) -> Result<()> {
    let draft = [name, b".new"].concat();
    match disk.remove(dir, &draft, false) {
        Err(fault) if !fault.is(Kind::NotFound) => return Err(fault),
        _ => {}
    }
    let file = disk.open(dir, &draft, true)?;
    disk.write(&file, 0, bytes)?;
    if durable {
        disk.sync(Sync::File(&file))?;
    }
    disk.place((dir, &draft), (dir, name), Place::Over)?;
    if durable {
        disk.sync(Sync::Dir(dir))
    } else {
        Ok(())
    }
}

/// The marker in `root`; `None` when there is none.
pub(crate) fn read_marker<D: Disk>(disk: &D, root: &D::Dir) -> Result<Option<Marker>> {
    let own = match disk.open_dir(root, OWN_DIR.as_bytes()) {
        Ok(own) => own,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        Err(fault) => return Err(fault.at(OWN_DIR)),
    };
    let bytes = match read_small(disk, &own, MARKER) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(fault) if fault.is(Kind::Corrupt) => return Ok(Some(Marker::unreadable())),
        Err(fault) => return Err(fault.at(".syncline/marker.json")),
    };
    Ok(Some(
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Marker::unreadable()),
    ))
}

/// Writes the marker of `root`, durably.
pub(crate) fn write_marker<D: Disk>(disk: &D, root: &D::Dir, marker: &Marker) -> Result<()> {
    let (own, made) = own_dir(disk, root)?;
    let bytes = serde_json::to_vec(marker).map_err(|e| Fault::new(Kind::Bug, e.to_string(), OWN_DIR))?;
    write_small(disk, &own, MARKER, &bytes, true).map_err(|fault| fault.at(".syncline/marker.json"))?;
    if made { disk.sync(Sync::Dir(root)) } else { Ok(()) }
}

/// The time by the root's file system: that of a file made there just now.
pub(crate) fn touch<D: Disk>(disk: &D, root: &D::Dir) -> Result<Time> {
    let (own, made) = own_dir(disk, root)?;
    let name = b"clock";
    match disk.remove(&own, name, false) {
        Err(fault) if !fault.is(Kind::NotFound) => return Err(fault),
        _ => {}
    }
    let file = disk.open(&own, name, true)?;
    let time = disk.stat_file(&file)?.ctime;
    drop(file);
    disk.remove(&own, name, false)?;
    if made {
        // A place that nobody has taken up yet stays as it was found.
        disk.remove(root, OWN_DIR.as_bytes(), true)?;
    }
    Ok(time)
}

/// A date and a time of day, as that host's clock has it.
fn moment(secs: i64) -> String {
    match jiff::Timestamp::from_second(secs) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "a time that makes no sense".into(),
    }
}

/// Takes the root's lock; `Busy` names its holder.
pub(crate) fn take_lock<D: Disk>(disk: &D, root: &D::Dir, me: &Holder, label: &str) -> Result<D::File> {
    let (own, _) = own_dir(disk, root)?;
    let file = match disk.open(&own, LOCK, true) {
        Err(fault) if fault.is(Kind::Exists) => disk.open(&own, LOCK, false)?,
        opened => opened?,
    };
    if let Err(fault) = disk.lock(&file) {
        if !fault.is(Kind::Busy) {
            return Err(fault.at(label));
        }
        let holder =
            read_small(disk, &own, HOLDER)?.and_then(|bytes| serde_json::from_slice::<Holder>(&bytes).ok());
        let who = holder.map_or_else(
            || "another run".to_owned(),
            |held| {
                format!(
                    "process {} on {} (since {})",
                    held.pid,
                    held.host,
                    moment(held.since)
                )
            },
        );
        return Err(
            Fault::new(Kind::Busy, format!("{who} works on this place"), label)
                .hint("wait until it has ended, or stop it"),
        );
    }
    let bytes = serde_json::to_vec(me).map_err(|e| Fault::new(Kind::Bug, e.to_string(), label))?;
    match write_small(disk, &own, HOLDER, &bytes, false) {
        // Who holds it is only told; the lock itself needs no room.
        Err(fault) if !fault.is(Kind::Full) => Err(fault),
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn who_holds_a_root_is_told_with_a_date() {
        assert_eq!(moment(1_795_307_517), "2026-11-22 00:31:57Z");
        assert!(moment(i64::MAX).contains("no sense"));
    }
}
