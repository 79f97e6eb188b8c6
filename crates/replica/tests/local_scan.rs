//! Scanning and reading a local tree.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests stand where a user stands"
)]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use syncline_model::replica::Links;
use syncline_model::{Content, Digest, Entry, Kind, Marker, Observation, RelPath, Scope, Seen, Slot, Why};
use syncline_replica::{LocalReplica, Replica};
use syncline_store::os::OsDisk;
use syncline_testkit::here::local_options;

fn open(at: &Path, threads: usize) -> LocalReplica<OsDisk> {
    let mut options = local_options("tree");
    options.threads = threads;
    LocalReplica::open(Arc::new(OsDisk::new()), at, options).unwrap()
}

fn rows(replica: &LocalReplica<OsDisk>, scope: &Scope) -> Vec<Seen> {
    block_on(async {
        let mut walk = replica.scan(scope).await.unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = walk.next().await.unwrap() {
            assert!(!batch.is_empty());
            rows.extend(batch);
        }
        rows
    })
}

fn names(rows: &[Seen]) -> Vec<String> {
    rows.iter().map(|seen| seen.slot.to_string()).collect()
}

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn find(replica: &LocalReplica<OsDisk>, at: &str) -> Observation {
    block_on(replica.find(&path(at), &Scope::default()))
        .unwrap()
        .unwrap()
}

fn bytes(
    replica: &LocalReplica<OsDisk>,
    at: &str,
    expect: &Observation,
    from: u64,
) -> syncline_model::Result<Vec<u8>> {
    block_on(async {
        let mut body = replica.read(&path(at), expect, from).await?;
        let mut all = Vec::new();
        while let Some(more) = body.next().await? {
            all.extend(more);
        }
        Ok(all)
    })
}

#[test]
fn rows_come_in_the_one_order_whatever_the_number_of_threads() {
    let tree = tempfile::tempdir().unwrap();
    for dir in ["a", "a/b", "a-b", "a/b/c", "z", "a0", ".syncline", "a/.syncline"] {
        std::fs::create_dir(tree.path().join(dir)).unwrap();
    }
    for at in 0..300 {
        std::fs::create_dir(tree.path().join(format!("z/{at}"))).unwrap();
        for name in ["x", "x-", "x.d", "w"] {
            std::fs::write(tree.path().join(format!("z/{at}/{name}")), name).unwrap();
        }
        std::fs::create_dir(tree.path().join(format!("z/{at}/x.e"))).unwrap();
        std::fs::write(tree.path().join(format!("z/{at}/x.e/y")), "").unwrap();
    }
    std::fs::write(tree.path().join("a-b/f"), "").unwrap();
    std::fs::write(tree.path().join("a."), "").unwrap();
    let inline = rows(&open(tree.path(), 0), &Scope::default());
    assert_eq!(
        names(&inline)[..9],
        [
            "a-b/",
            "a-b/f",
            "a.",
            "a/",
            "a/.syncline/",
            "a/b/",
            "a/b/c/",
            "a0/",
            "z/"
        ]
    );
    assert!(inline.is_sorted_by(|a, b| a.slot < b.slot));
    assert_eq!(inline.len(), 9 + 300 * 7);
    assert_eq!(inline[4].what.entry, Entry::Opaque(Why::Excluded));
    for threads in [1, 4] {
        assert!(
            rows(&open(tree.path(), threads), &Scope::default()) == inline,
            "{threads} threads"
        );
    }
}

#[test]
fn a_directory_beyond_memory_comes_in_order_and_is_descended() {
    let tree = tempfile::tempdir().unwrap();
    for at in 0..60_000 {
        std::fs::File::create(tree.path().join(format!("n{}", at * 7919 % 60_000))).unwrap();
    }
    std::fs::create_dir(tree.path().join("n30000-dir")).unwrap();
    std::fs::write(tree.path().join("n30000-dir/inside"), "x").unwrap();
    let seen = rows(&open(tree.path(), 2), &Scope::default());
    assert_eq!(seen.len(), 60_002);
    let sorted = std::fs::read_dir(tree.path().join(".syncline/sorting")).unwrap();
    assert_eq!(sorted.count(), 0, "sorted on disk, and nothing left there");
    assert!(seen.is_sorted_by(|a, b| a.slot < b.slot));
    assert!(names(&seen).contains(&"n30000-dir/inside".to_owned()));
}

#[test]
fn s17_names_of_any_bytes_are_listed_and_read_as_they_are() {
    let tree = tempfile::tempdir().unwrap();
    let long = [b'n'; 255];
    let corpus: Vec<&[u8]> = vec![
        b" lead",
        b"trail ",
        b"new\nline",
        b"*?[]#\\",
        b"a -> b",
        b"-rf",
        b"\xff\xfe",
        b"CON",
        b"a:b",
        b"r\r",
        b"dot.",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        b"Case",
        b"case",
        b"%2e%2e",
        b"..%c0%af",
        b"~",
        b"$(x)",
        b"\x1b[31m",
        &long,
    ];
    for name in &corpus {
        std::fs::write(tree.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let replica = open(tree.path(), 0);
    let seen = rows(&replica, &Scope::default());
    assert_eq!(seen.len(), corpus.len());
    for name in corpus {
        let slot = Slot::new(name).unwrap();
        let row = seen.iter().find(|row| row.slot == slot).unwrap();
        let content = block_on(replica.digest(&slot.path(), &row.what)).unwrap();
        assert_eq!(
            content.digest,
            Some(Digest(*blake3::hash(name).as_bytes())),
            "{slot}"
        );
    }
}

#[test]
fn s7_bytes_changed_under_the_same_size_and_time_are_noticed() {
    let tree = tempfile::tempdir().unwrap();
    let at = tree.path().join("f");
    std::fs::write(&at, "one").unwrap();
    let replica = open(tree.path(), 0);
    let before = find(&replica, "f");
    let times = std::fs::metadata(&at).unwrap().modified().unwrap();
    // The kernel's time moves in steps: write until the status change is another one.
    let old = std::fs::metadata(&at).unwrap();
    while (
        std::fs::metadata(&at).unwrap().ctime(),
        std::fs::metadata(&at).unwrap().ctime_nsec(),
    ) == (old.ctime(), old.ctime_nsec())
    {
        std::fs::write(&at, "two").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&at)
            .unwrap()
            .set_modified(times)
            .unwrap();
    }
    let after = find(&replica, "f");
    assert_eq!(after.entry, before.entry);
    assert!(!after.unchanged_since(&before));
    assert!(
        block_on(replica.digest(&path("f"), &before))
            .unwrap_err()
            .is(Kind::Changed)
    );
    assert!(bytes(&replica, "f", &before, 0).unwrap_err().is(Kind::Changed));
    assert_eq!(bytes(&replica, "f", &after, 1).unwrap(), b"wo");
}

#[test]
fn s27_a_file_changed_while_it_is_read_is_never_taken_for_whole() {
    let tree = tempfile::tempdir().unwrap();
    let at = tree.path().join("f");
    std::fs::write(&at, vec![1; 3 << 20]).unwrap();
    let replica = open(tree.path(), 0);
    let expect = find(&replica, "f");
    let outcome = block_on(async {
        let mut body = replica.read(&path("f"), &expect, 0).await.unwrap();
        body.next().await.unwrap();
        std::fs::write(&at, vec![2; 3 << 20]).unwrap();
        while body.next().await?.is_some() {}
        Ok::<_, syncline_model::Fault>(())
    });
    assert!(outcome.unwrap_err().is(Kind::Changed));
}

#[test]
fn digests_are_blake3_and_md5_only_when_asked() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("f"), "hello").unwrap();
    let replica = open(tree.path(), 0);
    let mut expect = find(&replica, "f");
    let plain = block_on(replica.digest(&path("f"), &expect)).unwrap();
    assert_eq!((plain.size, plain.md5), (5, None));
    *expect.entry.content_mut().unwrap() = Content {
        md5: Some([0; 16]),
        ..Content::unread(5)
    };
    let both = block_on(replica.digest(&path("f"), &expect)).unwrap();
    assert_eq!(both.digest, plain.digest);
    assert_eq!(both.md5.unwrap()[..4], [0x5d, 0x41, 0x40, 0x2a]);
}

#[test]
fn s30_links_pipes_and_shared_files_are_what_they_are() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("d/one"), "1").unwrap();
    std::fs::hard_link(at("d/one"), at("two")).unwrap();
    symlink("../outside", at("out")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    symlink(".", at("d/loop")).unwrap();
    symlink("d", at("dir")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let replica = open(tree.path(), 0);
    let seen = rows(&replica, &Scope::default());
    assert_eq!(
        names(&seen),
        ["d/", "d/loop", "d/one", "dangling", "dir", "out", "pipe", "two"]
    );
    let link = |at: usize| {
        if let Entry::File(_, _, link) = &seen[at].what.entry {
            *link
        } else {
            None
        }
    };
    assert!(link(2).is_some() && link(2) == link(7));
    assert!(matches!(&seen[5].what.entry, Entry::Link(_, target) if **target == *b"../outside"));
    let skipped = rows(
        &replica,
        &Scope {
            links: Links::Skip,
            ..Scope::default()
        },
    );
    assert_eq!(skipped[5].what.entry, Entry::Opaque(Why::Excluded));
    let followed = rows(
        &replica,
        &Scope {
            links: Links::Follow,
            ..Scope::default()
        },
    );
    assert_eq!(
        names(&followed),
        [
            "d/",
            "d/loop/",
            "d/one",
            "dangling",
            "dir/",
            "dir/loop/",
            "dir/one",
            "out",
            "pipe",
            "two"
        ]
    );
    for at in [1, 3, 5, 7] {
        assert!(
            matches!(followed[at].what.entry, Entry::Opaque(Why::Unreadable(_))),
            "{:?}",
            followed[at]
        );
    }
    assert_eq!(bytes(&replica, "dir/one", &followed[6].what, 0).unwrap(), b"1");
}

#[test]
fn only_the_paths_asked_for_and_nothing_hidden() {
    let tree = tempfile::tempdir().unwrap();
    for dir in ["a", "a/b", "c"] {
        std::fs::create_dir(tree.path().join(dir)).unwrap();
    }
    for file in ["a/b/f", "a/g", "c/h", "i"] {
        std::fs::write(tree.path().join(file), "").unwrap();
    }
    let only = ["i", "a/b", "a/b/f", "gone/x", "c/h"].map(path).to_vec();
    let seen = rows(
        &open(tree.path(), 2),
        &Scope {
            only,
            ..Scope::default()
        },
    );
    assert_eq!(names(&seen), ["a/b/", "a/b/f", "c/h", "i"]);
}

#[test]
fn the_root_is_known_again_and_missed_when_it_goes() {
    let tree = tempfile::tempdir().unwrap();
    let at = tree.path().join("root");
    std::fs::create_dir(&at).unwrap();
    let replica = open(&at, 0);
    assert_eq!(
        std::fs::read_dir(&at).unwrap().count(),
        0,
        "opening leaves nothing behind"
    );
    let first = block_on(replica.identity()).unwrap();
    assert_eq!(first.marker, None);
    assert!(block_on(replica.clock()).unwrap().unwrap().secs > 1_600_000_000);
    let marker = Marker {
        id: "abc".into(),
        generation: 7,
    };
    block_on(replica.mark(&marker)).unwrap();
    assert_eq!(
        std::fs::metadata(at.join(".syncline"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    let again = block_on(open(&at, 0).identity()).unwrap();
    assert_eq!((again.place, again.marker), (first.place, Some(marker)));
    std::fs::rename(&at, tree.path().join("elsewhere")).unwrap();
    assert!(block_on(replica.identity()).unwrap_err().is(Kind::NotFound));
    std::fs::create_dir(&at).unwrap();
    assert!(block_on(replica.identity()).unwrap_err().is(Kind::Changed));
}

#[test]
fn s24_s25_a_second_run_is_told_who_holds_the_root() {
    let tree = tempfile::tempdir().unwrap();
    let (one, two) = (open(tree.path(), 0), open(tree.path(), 0));
    let held = one.lock().unwrap();
    let refused = two.lock().err().unwrap();
    assert!(refused.is(Kind::Busy));
    assert!(
        refused.to_string().contains("testhost")
            && refused.to_string().contains(&std::process::id().to_string())
    );
    assert!(one.lock().is_ok());
    drop(held);
    assert!(two.lock().is_ok());
}
