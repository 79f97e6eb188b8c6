//! From errno to [`Fault`]: the one table for files, as the head of [`crate::disk`] promises it.

use rustix::io::Errno;
use syncline_model::{Fault, Kind, path};

/// A name as a person may read it.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        path::escape(self.0, f)
    }
}

/// What the receiver should do about `errno`.
pub fn kind(errno: Errno) -> Kind {
    match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::EXIST | Errno::NOTEMPTY => Kind::Exists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOKEY => Kind::Denied,
        Errno::NOSPC | Errno::DQUOT => Kind::Full,
        // Another kind of node stands there now; a stale handle of a network file system means the same.
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::STALE => {
            Kind::Changed
        }
        Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY | Errno::MLINK | Errno::FBIG => {
            Kind::Unsupported
        }
        Errno::BUSY | Errno::TXTBSY | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM => Kind::Busy,
        Errno::IO | Errno::UCLEAN | Errno::BADMSG => Kind::Corrupt,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ | Errno::TOOBIG | Errno::OVERFLOW | Errno::RANGE => {
            Kind::Invalid
        }
        Errno::NOTCONN | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::CONNREFUSED => {
            Kind::Offline
        }
        Errno::INTR | Errno::CANCELED => Kind::Cancelled,
        _ => Kind::Bug,
    }
}

/// The fault of `what`, tried at `name`. The errno stays below as its source.
#[cold]
pub fn fault(errno: Errno, what: &str, name: &[u8]) -> Fault {
    let fault = of_kind(kind(errno), errno, what, name);
    match errno {
        Errno::ROFS => fault
            .whole(true)
            .hint("let it be written (mount -o remount,rw), then run again: it goes on where it stopped"),
        Errno::DQUOT => fault
            .hint("make room there or have the quota raised, then run again: it goes on where it stopped"),
        _ => fault,
    }
}

/// The same where `what` gives `errno` a meaning of its own.
#[cold]
pub fn of_kind(kind: Kind, errno: Errno, what: &str, name: &[u8]) -> Fault {
    let why = std::io::Error::from_raw_os_error(errno.raw_os_error());
    Fault::new(kind, format!("{what}: {why}"), Shown(name)).because(errno)
}

/// A fault that no system call gave.
#[cold]
pub fn plain(kind: Kind, what: &str, name: &[u8]) -> Fault {
    Fault::new(kind, what, Shown(name))
}
