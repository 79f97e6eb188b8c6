//! Somebody replaces the file, or the process is killed, at every single call of a change: all interleavings, one by one,
//! on the simulated disk.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use syncline_model::{Kind, Observation};
use syncline_replica::{Applied, LocalReplica, Replica};
use syncline_store::{Disk, Place};
use syncline_testkit::here::local_options;
use syncline_testkit::replica_conformance::{Trial, dir, file};
use syncline_testkit::sim_disk::{Action, SimDisk};

fn open(disk: &SimDisk) -> Arc<dyn Replica> {
    let mut options = local_options("tree");
    options.threads = 0;
    Arc::new(LocalReplica::open(Arc::new(disk.clone()), Path::new("/"), options).unwrap())
}

fn read(disk: &SimDisk, name: &[u8]) -> Option<Vec<u8>> {
    let disk = disk.raw();
    let file = disk.open(&disk.top(), name, false).ok()?;
    let mut bytes = vec![0; 100];
    let got = disk.read(&file, 0, &mut bytes).unwrap();
    bytes.truncate(got);
    Some(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Update,
    Remove,
    IntoDirectory,
}

async fn change(trial: &Trial, what: Change, old: Observation) -> syncline_model::Result<Applied> {
    match what {
        Change::Update => trial.put_over("f", Some(old), b"ours").await,
        Change::Remove => trial.apply("f", Some(old), None, None, None).await,
        Change::IntoDirectory => trial.apply("f", Some(old), Some(dir()), None, None).await,
    }
}

#[test]
fn s27_whenever_somebody_replaces_the_file_theirs_stays_at_its_path() {
    for what in [Change::Update, Change::Remove, Change::IntoDirectory] {
        let (mut refused, mut done) = (0, 0);
        for moment in 0.. {
            let disk = SimDisk::new();
            let replica = open(&disk);
            let reached = block_on(async {
                let trial = Trial::new(&replica, "run").await;
                trial.put("f", b"seen").await;
                let old = trial.have("f").await;
                let raw = disk.raw();
                let mine = raw.open(&raw.top(), b"theirs", true).unwrap();
                raw.write(&mine, 0, b"newer").unwrap();
                let calls = Arc::new(AtomicU64::new(0));
                let count = Arc::clone(&calls);
                disk.before_call(move |_| {
                    if count.fetch_add(1, Ordering::Relaxed) == moment {
                        let top = raw.top();
                        // Over a directory that we put there they go around it: by exchange.
                        if raw.place((&top, b"theirs"), (&top, b"f"), Place::Over).is_err() {
                            raw.place((&top, b"theirs"), (&top, b"f"), Place::Exchange)
                                .unwrap();
                        }
                    }
                    Action::Go
                });
                let outcome = change(&trial, what, old).await;
                disk.no_hook();
                let reached = calls.load(Ordering::Relaxed) > moment;
                if reached {
                    assert_eq!(
                        read(&disk, b"f").as_deref(),
                        Some(&b"newer"[..]),
                        "{what:?} {moment} {outcome:?}"
                    );
                }
                match outcome {
                    Ok(applied) => {
                        done += 1;
                        assert_eq!(trial.trashed(&applied.trashed.unwrap()).await, b"seen");
                        if let (true, Some(now)) = (reached, &applied.now) {
                            let seen = trial.have("f").await;
                            assert!(
                                !seen.unchanged_since(now),
                                "{what:?} {moment}: theirs taken for ours"
                            );
                        }
                    }
                    Err(fault) => {
                        assert!(fault.is(Kind::Changed), "{what:?} {moment}: {fault:?}");
                        refused += 1;
                    }
                }
                trial.edit.finish().await.unwrap();
                reached
            });
            if !reached {
                break;
            }
        }
        assert!(
            refused > 1 && done > 0,
            "{what:?}: {refused} refused, {done} done"
        );
    }
}

#[test]
fn s23_killed_at_any_change_every_path_is_whole_and_nothing_is_lost() {
    for what in [Change::Update, Change::Remove, Change::IntoDirectory] {
        for moment in 0.. {
            let disk = SimDisk::new();
            let killed = block_on(async {
                let replica = open(&disk);
                let trial = Trial::new(&replica, "run-1").await;
                trial.put("f", b"seen").await;
                let old = trial.have("f").await;
                disk.kill_at_change(moment);
                let outcome = change(&trial, what, old).await;
                let killed = disk.is_killed();
                assert_eq!(outcome.is_err(), killed, "{outcome:?}");
                killed
            });
            disk.no_hook();
            disk.restart();
            block_on(async {
                let replica = open(&disk);
                let trial = Trial::new(&replica, "run-2").await;
                let now = read(&disk, b"f");
                let mut kept = Vec::new();
                if let Ok(mut walk) = replica.trash_list("run-1").await {
                    while let Some(rows) = walk.next().await.unwrap() {
                        for seen in rows.into_iter().filter(|seen| seen.what.entry.is_file()) {
                            let at = syncline_model::TrashRef {
                                run: "run-1".into(),
                                path: seen.slot.path(),
                            };
                            kept.push(trial.trashed(&at).await);
                        }
                    }
                }
                let seen = now.as_deref() == Some(b"seen") || kept.iter().any(|bytes| bytes == b"seen");
                assert!(seen, "{what:?} {moment}: lost; {now:?} {kept:?}");
                if what == Change::Update {
                    assert!(
                        [Some(&b"seen"[..]), Some(b"ours")].contains(&now.as_deref()),
                        "{moment}: {now:?}"
                    );
                }
                // The next run goes on by itself.
                trial.put("g", b"x").await;
                assert_eq!(trial.bytes("g").await, b"x");
                assert_eq!(
                    trial.put("h", &file(b"y").size().to_le_bytes()).await.trashed,
                    None
                );
                trial.edit.finish().await.unwrap();
            });
            if !killed {
                assert!(moment > 0, "{what:?}: only {moment} changes");
                break;
            }
        }
    }
}
