//! Buckets on a strict S3 server (moto), and side by side with rclone on it.

#![allow(clippy::unwrap_used)]

mod bucket_support;

use std::process::Command;
use std::sync::Arc;

use bucket_support::*;
use syncline_model::{Content, Entry, Kind, Meta, RelPath, Sameness, Time};
use syncline_replica::{BucketReplica, Replica};
use syncline_store::Store;
use syncline_testkit::moto::Moto;

async fn bucket(moto: &Moto, place: &str, device: &str) -> (Arc<dyn Store>, BucketReplica) {
    let bucket = place.split('/').next().unwrap();
    moto.endpoint.make_bucket(bucket).await.unwrap();
    let store = syncline_store::open::open(&moto.endpoint.place(place), moto.endpoint.options())
        .await
        .unwrap();
    let replica = BucketReplica::new(store.clone(), options(device)).unwrap();
    (store, replica)
}

fn rclone(moto: &Moto, arguments: &[&str]) -> String {
    let out = Command::new("rclone")
        .args(arguments)
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_CONFIG_M_TYPE", "s3")
        .env("RCLONE_CONFIG_M_PROVIDER", "Other")
        .env("RCLONE_CONFIG_M_ENDPOINT", &moto.endpoint.url)
        .env("RCLONE_CONFIG_M_ACCESS_KEY_ID", &moto.endpoint.id)
        .env("RCLONE_CONFIG_M_SECRET_ACCESS_KEY", &moto.endpoint.secret)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "rclone: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn has_rclone() -> bool {
    let found = Command::new("rclone")
        .arg("version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        println!("skipped: rclone is not installed");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_b2_races_on_a_real_protocol() {
    let Some(moto) = Moto::start().await else { return };
    let (store, one) = bucket(&moto, "races/team", "one").await;
    assert!(
        store.caps().if_absent && store.caps().if_is && store.caps().tag_is_md5,
        "{:?}",
        store.caps()
    );
    let (_, two) = bucket(&moto, "races/team", "two").await;
    let (first, second) = (
        one.edit(&run("r1")).await.unwrap(),
        two.edit(&run("r2")).await.unwrap(),
    );
    let base = put(&first, "f", None, b"base").await;
    assert!(
        try_put(&second, "f", None, b"late")
            .await
            .unwrap_err()
            .is(Kind::Changed)
    );
    let now = put(&second, "f", Some(base.clone()), b"colleague").await;
    assert!(
        try_put(&first, "f", Some(base.clone()), b"mine")
            .await
            .unwrap_err()
            .is(Kind::Changed)
    );
    assert!(
        first
            .apply(&change("f", Some(base), None), None)
            .await
            .unwrap_err()
            .is(Kind::Changed)
    );
    first
        .apply(&change("empty", None, Some(Entry::Dir(meta()))), None)
        .await
        .unwrap();
    first.finish().await.unwrap();
    second.finish().await.unwrap();
    let seen = tree(&one).await;
    assert_eq!(
        seen.iter().map(|row| row.slot.to_string()).collect::<Vec<_>>(),
        ["empty/", "f"]
    );
    assert_eq!(seen[1].what, now);
    assert_eq!(find(&two, "f").await, Some(now));
    let marker = |generation| syncline_model::Marker {
        id: "m".into(),
        generation,
    };
    one.mark(&marker(1)).await.unwrap();
    two.mark(&marker(2)).await.unwrap();
    assert_eq!(one.identity().await.unwrap().marker, Some(marker(2)));
    // Nothing outside the prefix was touched (B9).
    let (outside, _) = bucket(&moto, "races", "three").await;
    let mut listing = outside.list("", None).await.unwrap();
    while let Some(page) = listing.next().await.unwrap() {
        assert!(page.iter().all(|listed| listed.key.as_str().starts_with("team/")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_a_bucket_that_is_not_there_is_not_an_empty_one() {
    let Some(moto) = Moto::start().await else { return };
    let (_, replica) = bucket(&moto, "there", "one").await;
    assert_eq!(replica.identity().await.unwrap().marker, None);
    let caps = Some(replica_caps());
    let options = syncline_store::OpenOptions {
        caps,
        ..moto.endpoint.options()
    };
    let store = syncline_store::open::open(&moto.endpoint.place("nowhere"), options)
        .await
        .unwrap();
    let replica = BucketReplica::new(store, bucket_support::options("one")).unwrap();
    assert!(replica.identity().await.unwrap_err().is(Kind::NotFound));
    assert!(replica.scan(&scope()).await.is_err());
}

fn replica_caps() -> syncline_store::Caps {
    MemStore::new().caps
}

#[tokio::test(flavor = "multi_thread")]
async fn s17_b7_odd_names_and_odd_keys_on_a_real_protocol() {
    let Some(moto) = Moto::start().await else { return };
    let (store, replica) = bucket(&moto, "odd/root", "one").await;
    let edit = replica.edit(&run("r")).await.unwrap();
    let names: [&[u8]; 9] = [
        b" lead",
        b"trail ",
        b"two  blanks",
        b"*?[]#\\&<>%41+",
        "\u{201b}\u{ff0f}".as_bytes(),
        b"caf\xe9",
        b"e\xcc\x81",
        "é".as_bytes(),
        b" -> ",
    ];
    for name in names {
        let at = RelPath::new([b"d/", name].concat()).unwrap();
        let staged = edit.stage(&at, &file(name), Text::new(name)).await.unwrap();
        let change = syncline_model::Change {
            path: at,
            old: None,
            new: Some(file(name)),
            from: None,
        };
        edit.apply(&change, Some(staged)).await.unwrap();
    }
    edit.finish().await.unwrap();
    for key in ["d//x", "d/../../escape", "d/ctl\u{7f}"] {
        let key = syncline_store::Key::new(key).unwrap();
        let mut draft = store
            .draft(&key, Some(1), Default::default(), None)
            .await
            .unwrap();
        draft.write(bytes::Bytes::from_static(b"x")).await.unwrap();
        draft.publish(syncline_store::Cond::Any).await.unwrap();
    }
    let seen = tree(&replica).await;
    let files: Vec<_> = seen.iter().filter(|row| row.what.entry.is_file()).collect();
    assert_eq!(files.len(), names.len() + 1);
    assert_eq!(seen.iter().filter(|row| row.what.entry.is_opaque()).count(), 2);
    for row in files {
        let path = row.slot.path();
        let name = path.name().unwrap();
        let held = contents(replica.read(&path, &row.what, 0).await.unwrap()).await;
        assert!(held == name.as_bytes() || name.as_bytes() == b"ctl\x7f", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_what_rclone_uploads_is_adopted_and_what_we_upload_it_understands() {
    if !has_rclone() {
        return;
    }
    let Some(moto) = Moto::start().await else { return };
    let (_, replica) = bucket(&moto, "shared", "one").await;
    // From rclone to us.
    let here = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [
        b"plain",
        b"caf\xe9",
        "\u{ff0e}".as_bytes(),
        "a\u{ff0f}b".as_bytes(),
    ];
    for name in names {
        use std::os::unix::ffi::OsStrExt;
        let at = here.path().join(std::ffi::OsStr::from_bytes(name));
        let made = Command::new("sh")
            .args(["-c", "printf bytes > \"$0\" && touch -d @1600000000.5 \"$0\""])
            .arg(&at)
            .status();
        assert!(made.unwrap().success());
    }
    rclone(&moto, &["copy", here.path().to_str().unwrap(), "m:shared/theirs"]);
    let seen = tree(&replica).await;
    let found: std::collections::BTreeSet<Vec<u8>> = seen
        .iter()
        .filter(|row| row.what.entry.is_file())
        .map(|row| row.slot.path().name().unwrap().as_bytes().to_vec())
        .collect();
    assert_eq!(
        found,
        names.iter().map(|name| name.to_vec()).collect(),
        "both show the same names"
    );
    let plain = path("theirs/plain");
    let row = seen.iter().find(|row| row.slot.path() == plain).unwrap();
    let md5 = {
        use md5::Digest as _;
        md5::Md5::digest(b"bytes").into()
    };
    let local = Content {
        size: 5,
        digest: None,
        md5: Some(md5),
    };
    assert_eq!(
        replica.digest(&plain, &row.what).await.unwrap().same(&local),
        Sameness::Same
    );
    let meta = replica.find(&plain, &scope()).await.unwrap().unwrap();
    assert_eq!(
        meta.entry.meta().unwrap().mtime,
        Some(Time {
            secs: 1_600_000_000,
            nanos: 500_000_000
        })
    );
    // From us to rclone.
    let edit = replica.edit(&run("r")).await.unwrap();
    put(&edit, "ours/f", None, b"bytes").await;
    let at = RelPath::new(b"ours/\xff\xfe".as_slice()).unwrap();
    let staged = edit.stage(&at, &file(b"x"), Text::new(b"x")).await.unwrap();
    let change = syncline_model::Change {
        path: at,
        old: None,
        new: Some(file(b"x")),
        from: None,
    };
    edit.apply(&change, Some(staged)).await.unwrap();
    edit.apply(
        &bucket_support::change("hollow", None, Some(Entry::Dir(Meta::default()))),
        None,
    )
    .await
    .unwrap();
    edit.finish().await.unwrap();
    let shown = rclone(&moto, &["lsl", "m:shared/ours"]);
    assert!(shown.contains("5 2023-11-14 22:13:20.123456789 f"), "{shown}");
    let back = tempfile::tempdir().unwrap();
    rclone(&moto, &["copy", "m:shared/ours", back.path().to_str().unwrap()]);
    let names = Command::new("ls").arg("-b").arg(back.path()).output().unwrap();
    assert_eq!(String::from_utf8(names.stdout).unwrap(), "f\n\\377\\376\n");
}

/// What is displaced where versions are kept is noted and comes back, without a copy being asked for.
#[tokio::test(flavor = "multi_thread")]
async fn s19_versions_serve_as_the_trash_and_no_copy_is_asked_for() {
    let Some(moto) = Moto::start().await else { return };
    moto.endpoint.make_versioned_bucket("kept").await.unwrap();
    let options = moto.endpoint.options();
    let meter = options.meter.clone();
    let store = syncline_store::open::open(&moto.endpoint.place("kept/a tree"), options)
        .await
        .unwrap();
    let replica = BucketReplica::new(store, bucket_support::options("one")).unwrap();
    let edit = replica.edit(&run("r")).await.unwrap();
    let first = put(&edit, "d/f", None, b"first").await;
    let before = meter.counts();
    let second = try_put(&edit, "d/f", Some(first), b"second").await.unwrap();
    let removed = edit.apply(&change("d/f", second.now, None), None).await.unwrap();
    edit.finish().await.unwrap();
    assert_eq!(meter.counts().copy - before.copy, 0);
    let kept = [second.trashed.unwrap(), removed.trashed.unwrap()];
    for (at, bytes) in kept.iter().zip([&b"first"[..], b"second"]) {
        assert_eq!(contents(replica.trash_read(at).await.unwrap()).await, bytes);
    }
    let listed = rows(replica.trash_list("r").await.unwrap()).await;
    let sizes: Vec<u64> = listed
        .iter()
        .map(|row| row.what.entry.size())
        .filter(|size| *size > 0)
        .collect();
    assert_eq!(sizes, [5, 6]);
    let edit = replica.edit(&run("undo")).await.unwrap();
    let back = syncline_model::Change {
        from: Some(syncline_model::From::Trash(kept[0].clone())),
        ..change("d/f", None, Some(file(b"first")))
    };
    edit.apply(&back, None).await.unwrap();
    edit.finish().await.unwrap();
    assert_eq!(meter.counts().copy - before.copy, 1, "bringing it back is one");
    replica.trash_empty("r").await.unwrap();
    for at in &kept {
        assert!(
            replica
                .trash_read(at)
                .await
                .map(drop)
                .unwrap_err()
                .is(Kind::NotFound)
        );
    }
    let stands = find(&replica, "d/f").await.unwrap();
    let body = replica.read(&path("d/f"), &stands, 0).await.unwrap();
    assert_eq!(contents(body).await, b"first");
}
