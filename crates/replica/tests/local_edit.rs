//! Editing a local tree while others are at it, on full disks, across file systems.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests stand where a user stands"
)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::executor::block_on;
use syncline_model::{Entry, From, Kind, Meta};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::os::OsDisk;
use syncline_testkit::here::local_options;
use syncline_testkit::replica_conformance::{Trial, dir, file, path};

fn open(at: &Path) -> Arc<dyn Replica> {
    open_as(at, |_| {})
}

fn open_as(at: &Path, change: impl FnOnce(&mut LocalOptions)) -> Arc<dyn Replica> {
    let mut options = local_options("tree");
    change(&mut options);
    Arc::new(LocalReplica::open(Arc::new(OsDisk::new()), at, options).unwrap())
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(
        done.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// False, and said, where nothing can be mounted.
fn can_mount() -> bool {
    if !root() {
        eprintln!("skipped: not root: nothing can be mounted");
    }
    root()
}

/// A small file system in memory, gone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(at: Option<&Path>, bytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = at.unwrap_or(dir.path());
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes}"),
                "syncline-test",
                &target.display().to_string(),
            ],
        );
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn sp6_s29_a_link_swapped_in_for_a_directory_is_refused() {
    let (tree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(tree.path().join("a/b")).unwrap();
    std::fs::write(tree.path().join("a/b/old"), "mine").unwrap();
    std::fs::write(outside.path().join("old"), "theirs").unwrap();
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        // The handle of a/b is warm now.
        trial.put("a/b/first", b"1").await;
        let old = trial.have("a/b/old").await;
        let staged = trial.stage("a/b/new", &file(b"2"), b"2").await.unwrap();
        for swapped in ["a/b", "a"] {
            let (at, aside) = (tree.path().join(swapped), tree.path().join("aside"));
            std::fs::rename(&at, &aside).unwrap();
            symlink(outside.path(), &at).unwrap();
            let removed = trial.apply("a/b/old", Some(old.clone()), None, None, None).await;
            assert!(removed.unwrap_err().is(Kind::Changed));
            assert!(
                trial
                    .put_over("a/b/other", None, b"3")
                    .await
                    .unwrap_err()
                    .is(Kind::Changed)
            );
            assert_eq!(trial.find("a/b/old").await, None);
            assert!(
                replica
                    .digest(&path("a/b/old"), &old)
                    .await
                    .unwrap_err()
                    .is(Kind::Changed)
            );
            std::fs::remove_file(&at).unwrap();
            std::fs::rename(&aside, &at).unwrap();
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(outside.path().join("old")).unwrap(), b"theirs");
        trial
            .apply("a/b/new", None, Some(file(b"2")), None, Some(staged))
            .await
            .unwrap();
        trial.edit.finish().await.unwrap();
    });
}

#[test]
fn s27_an_edit_that_comes_in_between_survives() {
    let tree = tempfile::tempdir().unwrap();
    let at = tree.path().join("f");
    std::fs::write(&at, "seen").unwrap();
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        let seen = trial.have("f").await;
        let staged = trial.stage("f", &file(b"ours"), b"ours").await.unwrap();
        std::fs::write(tree.path().join("f.new"), "the user's newer one").unwrap();
        std::fs::rename(tree.path().join("f.new"), &at).unwrap();
        let refused = trial
            .apply("f", Some(seen.clone()), Some(file(b"ours")), None, Some(staged))
            .await;
        assert!(refused.unwrap_err().is(Kind::Changed));
        assert!(
            trial
                .apply("f", Some(seen), None, None, None)
                .await
                .unwrap_err()
                .is(Kind::Changed)
        );
        assert_eq!(std::fs::read(&at).unwrap(), b"the user's newer one");
        trial.edit.finish().await.unwrap();
    });
}

/// Somebody replaces the file all the time while we update and remove it: every version of theirs is found afterwards, at
/// the path or in the trash, and nothing is torn.
#[test]
fn s27_p3_no_version_is_lost_against_a_busy_writer() {
    let tree = tempfile::tempdir().unwrap();
    let replica = open(tree.path());
    let stop = Arc::new(AtomicBool::new(false));
    let at = tree.path().join("f");
    let written = Arc::new(AtomicU32::new(0));
    let writer = std::thread::spawn({
        let written = Arc::clone(&written);
        let (stop, at, spare) = (Arc::clone(&stop), at.clone(), tree.path().join("spare"));
        move || {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            let (mut count, mut taken) = (0u32, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                std::fs::write(&spare, format!("theirs {count}")).unwrap();
                count += 1;
                written.store(count, Ordering::Relaxed);
                loop {
                    if renameat_with(CWD, &spare, CWD, &at, RenameFlags::NOREPLACE).is_ok() {
                        break;
                    }
                    // They lose nothing either: what they replace they keep.
                    if renameat_with(CWD, &spare, CWD, &at, RenameFlags::EXCHANGE).is_ok() {
                        taken.push(std::fs::read_to_string(&spare).unwrap());
                        break;
                    }
                }
                for _ in 0..count % 64 {
                    std::thread::yield_now();
                }
            }
            (count, taken)
        }
    });
    let mut ours = 0u32;
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        let enough = |ours| ours > 60 && written.load(Ordering::Relaxed) > 400;
        for round in 0..500_000u32 {
            if enough(ours) {
                break;
            }
            let Some(old) = trial.find("f").await else {
                std::thread::yield_now();
                continue;
            };
            if round % 2 == 0 {
                trial.apply("f", Some(old), None, None, None).await.ok();
            } else if trial
                .put_over("f", Some(old), format!("ours {ours}").as_bytes())
                .await
                .is_ok()
            {
                ours += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (theirs, taken) = writer.join().unwrap();
        let mut found: std::collections::BTreeSet<String> = taken.into_iter().collect();
        found.extend(std::fs::read_to_string(&at));
        trial.edit.finish().await.unwrap();
        let trash = tree.path().join(".syncline/trash/run");
        for kept in std::fs::read_dir(trash).unwrap() {
            found.insert(std::fs::read_to_string(kept.unwrap().path()).unwrap());
        }
        assert!(theirs > 20 && ours > 20, "{theirs} of theirs, {ours} of ours");
        for (who, count) in [("theirs", theirs), ("ours", ours)] {
            for n in 0..count {
                assert!(
                    found.contains(&format!("{who} {n}")),
                    "{who} {n} of {count} is lost"
                );
            }
        }
    });
}

/// Attributes that somebody sets between the look and the move are theirs: they stay, and the report lets the next look see them.
#[test]
fn s28_what_moves_keeps_the_attributes_that_were_set_since_it_was_looked_at() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    let set = |name: &str, mode: u32| {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode() & 0o7777;
    for name in ["f", "still", "one", "two"] {
        std::fs::write(at(name), name).unwrap();
        set(name, 0o4755);
    }
    std::fs::create_dir(at("d")).unwrap();
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        for (from, to) in [("f", "g"), ("d", "e")] {
            let seen = trial.have(from).await;
            set(from, 0o700);
            let moved = Some(From::Move(path(from)));
            let applied = trial.apply(to, None, Some(seen.entry.clone()), moved, None).await;
            assert_eq!(mode(to), 0o700, "{to}");
            let told = applied.unwrap().now.unwrap();
            assert_eq!(told.entry.meta(), seen.entry.meta(), "{to}");
            assert!(!trial.have(to).await.unchanged_since(&told), "{to}");
        }
        let seen = trial.have("two").await;
        set("two", 0o600);
        let exchanged = Some(From::Exchange(path("two")));
        let applied = trial
            .apply("one", None, Some(seen.entry.clone()), exchanged, None)
            .await;
        assert_eq!((mode("one"), mode("two")), (0o600, 0o4755));
        let told = applied.unwrap().now.unwrap();
        assert!(!trial.have("one").await.unchanged_since(&told));
        // What nobody touches keeps all that it has, and is known again.
        let seen = trial.have("still").await;
        let moved = Some(From::Move(path("still")));
        let applied = trial.apply("there", None, Some(seen.entry), moved, None).await;
        assert_eq!(mode("there"), 0o4755);
        let told = applied.unwrap().now.unwrap();
        assert!(trial.have("there").await.unchanged_since(&told));
        trial.edit.finish().await.unwrap();
    });
}

#[test]
fn s26_a_full_disk_refuses_and_loses_nothing() {
    if !can_mount() {
        return;
    }
    let small = Small::new(None, 1 << 20);
    let replica = open(small.0.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        trial.put("f", b"small").await;
        let big = vec![7; 3 << 20];
        for name in ["f", "g"] {
            let old = trial.find(name).await;
            assert!(
                trial.put_over(name, old, &big).await.unwrap_err().is(Kind::Full),
                "{name}"
            );
        }
        assert_eq!(trial.bytes("f").await, b"small");
        // What was refused takes no room: there is some again at once.
        trial.put("f", &vec![8; 200 << 10]).await;
        trial.remove("f").await;
        trial.edit.flush().await.unwrap();
        trial.edit.finish().await.unwrap();
        assert!(trial.names().await.is_empty());
    });
}

#[test]
fn sp8_s30_holes_stay_holes_and_set_id_bits_are_not_taken_over_unasked() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sparse = std::fs::File::create(from.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"head", 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 40 << 20).unwrap();
    sparse.set_len(100 << 20).unwrap();
    drop(sparse);
    let source = open(from.path());
    // Who may not set owners does not set these bits for others either.
    let trusted = if root() { 0o4755 } else { 0o755 };
    for (name, set_ids, mode) in [("plain", false, 0o755), ("trusted", true, trusted)] {
        let at = to.path().join(name);
        std::fs::create_dir(&at).unwrap();
        let replica = open_as(&at, |options| options.set_ids = set_ids);
        block_on(async {
            let trial = Trial::new(&replica, "run").await;
            let seen = source
                .find(&path("sparse"), &syncline_model::Scope::default())
                .await
                .unwrap()
                .unwrap();
            let expect = source.digest(&path("sparse"), &seen).await.unwrap();
            let mut entry = seen.entry.clone();
            entry.meta_mut().unwrap().mode = Some(0o4755);
            entry.content_mut().unwrap().learn(&expect);
            let body = source.read(&path("sparse"), &seen, 0).await.unwrap();
            let staged = trial.edit.stage(&path("sparse"), &entry, body).await.unwrap();
            trial
                .apply("sparse", None, Some(entry), None, Some(staged))
                .await
                .unwrap();
            trial.edit.finish().await.unwrap();
        });
        let copy = std::fs::metadata(at.join("sparse")).unwrap();
        assert_eq!(copy.len(), 100 << 20);
        assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
        assert_eq!(copy.permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn sp4_d5_another_file_system_below_the_root_has_a_stage_and_trash_of_its_own() {
    if !can_mount() {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let below = tree.path().join("a/mnt");
    std::fs::create_dir_all(&below).unwrap();
    run(
        "mount",
        &["-t", "tmpfs", "syncline-test", &below.display().to_string()],
    );
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&below);
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        trial.put("top", b"0").await;
        trial.remove("top").await;
        trial.make("a/mnt/d", dir()).await;
        trial.put("a/mnt/d/f", b"1").await;
        trial.put("a/mnt/d/f", b"2").await;
        let kept = trial.remove("a/mnt/d/f").await.trashed.unwrap();
        assert_eq!(kept.path, path("a/mnt/d/f.~2~"));
        trial.edit.flush().await.unwrap();
        trial.edit.finish().await.unwrap();
        assert_eq!(trial.trashed(&kept).await, b"2");
        assert_eq!(
            trial.names().await,
            ["a/", "a/mnt/", "a/mnt/.syncline/", "a/mnt/d/"]
        );
        let mut walk = replica.trash_list("run").await.unwrap();
        let rows = walk.next().await.unwrap().unwrap();
        let slots: Vec<String> = rows.iter().map(|seen| seen.slot.to_string()).collect();
        assert_eq!(
            slots,
            ["a/", "a/mnt/", "a/mnt/d/", "a/mnt/d/f", "a/mnt/d/f.~2~", "top"]
        );
        drop(trial);
        let again = Trial::new(&replica, "run-2").await;
        let from = Some(syncline_model::From::Trash(kept.clone()));
        again
            .apply("a/mnt/d/g", None, Some(file(b"2")), from, None)
            .await
            .unwrap();
        assert_eq!(again.bytes("a/mnt/d/g").await, b"2");
        again.edit.finish().await.unwrap();
        replica.trash_empty("run").await.unwrap();
        assert!(replica.trash().await.unwrap().is_empty());
        assert!(!below.join(".syncline/trash/run").exists());
    });
}

#[test]
fn s23_the_stage_of_a_dead_run_is_cleared_and_the_tree_is_left_alone() {
    let tree = tempfile::tempdir().unwrap();
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "dead").await;
        trial.put("f", b"published").await;
        trial.stage("g", &file(b"never"), b"never").await.unwrap();
        drop(trial);
        // Deeper than handles may be kept.
        let mut deep = tree.path().join(".syncline/stage/dead");
        for _ in 0..200 {
            deep.push("d");
            std::fs::create_dir(&deep).unwrap();
        }
        std::fs::write(deep.join("x"), "").unwrap();
        let trial = Trial::new(&replica, "next").await;
        assert!(!tree.path().join(".syncline/stage/dead").exists());
        assert_eq!(trial.names().await, ["f"]);
        trial.edit.finish().await.unwrap();
        assert_eq!(
            std::fs::read_dir(tree.path().join(".syncline/stage"))
                .unwrap()
                .count(),
            0
        );
    });
}

#[test]
fn a_mode_that_is_not_carried_is_the_umasks_or_that_of_what_is_replaced() {
    let tree = tempfile::tempdir().unwrap();
    let replica = open(tree.path());
    let bare = |bytes: &[u8]| {
        let mut entry = file(bytes);
        *entry.meta_mut().unwrap() = Meta::default();
        entry
    };
    let mode = |name: &str| {
        std::fs::metadata(tree.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        let staged = trial.stage("f", &bare(b"1"), b"1").await.unwrap();
        trial
            .apply("f", None, Some(bare(b"1")), None, Some(staged))
            .await
            .unwrap();
        trial.make("d", Entry::Dir(Meta::default())).await;
        assert_eq!((mode("f"), mode("d")), (0o644, 0o755));
        std::fs::set_permissions(tree.path().join("f"), std::fs::Permissions::from_mode(0o640)).unwrap();
        if root() {
            std::os::unix::fs::chown(tree.path().join("f"), Some(1234), Some(1234)).unwrap();
        }
        let owner = std::fs::metadata(tree.path().join("f")).unwrap().uid();
        let old = trial.have("f").await;
        let staged = trial.stage("f", &bare(b"2"), b"2").await.unwrap();
        trial
            .apply("f", Some(old), Some(bare(b"2")), None, Some(staged))
            .await
            .unwrap();
        assert_eq!(mode("f"), 0o640);
        assert_eq!(std::fs::metadata(tree.path().join("f")).unwrap().uid(), owner);
        trial.edit.finish().await.unwrap();
    });
}

#[test]
fn a_whole_deep_chain_and_many_directories_keep_few_handles() {
    let tree = tempfile::tempdir().unwrap();
    let replica = open(tree.path());
    block_on(async {
        let trial = Trial::new(&replica, "run").await;
        let mut at = String::new();
        for level in 0..300 {
            at.push_str(if level == 0 { "d" } else { "/d" });
            trial.make(&at, dir()).await;
        }
        trial.put(&format!("{at}/f"), b"deep").await;
        for n in 0..400 {
            trial.make(&format!("w{n}"), dir()).await;
            trial.put(&format!("w{n}/f"), b"wide").await;
        }
        assert_eq!(trial.rows().await.len(), 301 + 800);
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open < 350, "{open} handles");
        assert_eq!(trial.bytes(&format!("{at}/f")).await, b"deep");
        trial.edit.finish().await.unwrap();
    });
}
