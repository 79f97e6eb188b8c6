//! Trash at another place: taken there, shown as one with what is still here, emptied.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests stand where a user stands"
)]

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use syncline_model::{Change, Kind, RelPath, Scope, Seen};
use syncline_replica::{Durability, EditOptions, Elsewhere, LocalReplica, Replica, TrashElsewhere};
use syncline_store::os::OsDisk;
use syncline_testkit::here::local_options;

const RUN: &str = "20260131T235959.123Z-0001";

fn local(at: &Path) -> Arc<dyn Replica> {
    Arc::new(LocalReplica::open(Arc::new(OsDisk::new()), at, local_options("tree")).unwrap())
}

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

/// Removes these in one run, in this order.
fn displace(replica: &dyn Replica, paths: &[&str]) {
    block_on(async {
        let options = EditOptions {
            run: RUN.into(),
            trash: true,
            classes: replica.profile().classes,
            durability: Durability::Batch,
        };
        let edit = replica.edit(&options).await.unwrap();
        for text in paths {
            let old = replica.find(&path(text), &Scope::default()).await.unwrap();
            assert!(old.is_some(), "{text}");
            let change = Change {
                path: path(text),
                old,
                new: None,
                from: None,
            };
            edit.apply(&change, None).await.unwrap();
        }
        edit.finish().await.unwrap();
    });
}

fn listed(replica: &dyn Replica) -> Result<Vec<String>, Kind> {
    block_on(async {
        let mut walk = replica.trash_list(RUN).await.map_err(|fault| fault.kind)?;
        let mut rows: Vec<Seen> = Vec::new();
        while let Some(batch) = walk.next().await.unwrap() {
            rows.extend(batch);
        }
        Ok(rows.iter().map(|seen| seen.slot.to_string()).collect())
    })
}

#[test]
fn s19_trash_at_another_place_is_one_with_what_is_here_and_goes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, place) = (dir.path().join("tree"), dir.path().join("place"));
    for made in ["tree/d/e", "tree/d/z", "place"] {
        std::fs::create_dir_all(dir.path().join(made)).unwrap();
    }
    for file in ["a", "d/e/f", "d/e-", "d/z/f", "later"] {
        std::fs::write(tree.join(file), file).unwrap();
    }
    let goes = Elsewhere {
        place: local(&place),
        below: path("session/left"),
    };
    let replica = TrashElsewhere {
        inner: local(&tree),
        goes: Some(goes),
        lies: Vec::new(),
    };

    displace(&replica, &["a", "d/e/f", "d/e-", "d/z/f", "d/e", "d/z", "d"]);
    let here = listed(&*replica.inner).unwrap();
    block_on(replica.tidy_trash()).unwrap();
    assert_eq!(listed(&*replica.inner), Err(Kind::NotFound));
    assert_eq!(listed(&replica).unwrap(), here);
    assert!(here.iter().any(|slot| slot == "d/e/f"), "{here:?}");
    let runs = block_on(replica.trash()).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].time.secs, 1_769_903_999);

    // What the same run displaces afterwards lies here still.
    displace(&replica, &["later"]);
    let all: Vec<String> = here.into_iter().chain(["later".to_owned()]).collect();
    assert_eq!(listed(&replica).unwrap(), all);

    block_on(replica.trash_empty(RUN)).unwrap();
    assert_eq!(listed(&replica), Err(Kind::NotFound));
    assert!(!place.join("session/left").join(RUN).exists());
    assert!(place.join("session/left").exists());
}
