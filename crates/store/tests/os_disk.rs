//! The real disk beyond what every `Disk` must do: security rules SP2 to SP5 and SP14 for each verb, odd times, holes,
//! names of any bytes, file system identity.
//!
//! What is checked comes from `std::fs`, not from the code under test.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use syncline_model::{Kind, Owner, Special, Time};
use syncline_store::disk::{Attrs, Disk, Make, Node, Place, Range, Sync, Target, XattrClasses};
use syncline_store::os::{OsDir, OsDisk};

const ALL: XattrClasses = XattrClasses {
    plain: true,
    acls: true,
};

struct Ground {
    disk: OsDisk,
    root: OsDir,
    path: PathBuf,
    _temp: tempfile::TempDir,
}

/// A root with a file and a directory, and beside it an outside that nothing may reach.
fn ground() -> Ground {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = temp.path().join("root");
    fs::create_dir(&path).unwrap();
    fs::create_dir(temp.path().join("outside")).unwrap();
    fs::write(temp.path().join("outside/canary"), b"canary").unwrap();
    fs::set_permissions(
        temp.path().join("outside/canary"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let disk = OsDisk::new();
    let root = disk.root(&path).unwrap();
    Ground {
        disk,
        root,
        path,
        _temp: temp,
    }
}

impl Ground {
    fn outside(&self) -> PathBuf {
        self.path.parent().unwrap().join("outside")
    }

    fn canary(&self) -> (Vec<u8>, u32, i64, i64, u64, usize) {
        let path = self.outside().join("canary");
        let m = fs::metadata(&path).unwrap();
        let names = fs::read_dir(self.outside()).unwrap().count();
        (
            fs::read(&path).unwrap(),
            m.mode(),
            m.mtime(),
            m.ctime_nsec(),
            m.nlink(),
            names,
        )
    }
}

#[track_caller]
fn refused<T>(result: syncline_model::Result<T>, kinds: &[Kind]) {
    let fault = result.err().expect("must be refused");
    assert!(kinds.contains(&fault.kind), "{fault:?}");
}

#[test]
fn a_file_goes_from_draft_to_place_with_all_its_attributes() {
    let g = ground();
    let file = g.disk.open(&g.root, b"draft", true).unwrap();
    g.disk.write(&file, 0, b"hello").unwrap();
    let xattrs = vec![(b"user.note".to_vec(), b"kept".to_vec())];
    let mtime = Time {
        secs: -86_400,
        nanos: 999_999_999,
    };
    let attrs = Attrs {
        owner: Some(Owner { uid: 12, gid: 34 }),
        mode: Some(0o4751),
        mtime: Some(mtime),
        xattrs: Some((&xattrs, ALL)),
    };
    g.disk.set(Target::File(&file), attrs).unwrap();
    g.disk.sync(Sync::File(&file)).unwrap();
    g.disk
        .place((&g.root, b"draft"), (&g.root, b"there"), Place::New)
        .unwrap();
    g.disk.sync(Sync::Dir(&g.root)).unwrap();
    g.disk.sync(Sync::Fs(&g.root)).unwrap();

    let seen = fs::metadata(g.path.join("there")).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (12, 34, 0o4751));
    assert_eq!((seen.mtime(), seen.mtime_nsec()), (-86_400, 999_999_999));
    let stat = g.disk.stat(&g.root, b"there").unwrap();
    assert_eq!(
        (stat.mtime, stat.size, stat.inode, stat.links),
        (mtime, 5, seen.ino(), 1)
    );
    assert_eq!(
        (stat.ctime.secs, i64::from(stat.ctime.nanos)),
        (seen.ctime(), seen.ctime_nsec())
    );
    assert_eq!(stat.dev, seen.dev());
    assert_eq!(
        g.disk.xattrs(Target::Name(&g.root, b"there"), ALL).unwrap(),
        xattrs
    );
}
