//! The S3 store against the servers in this process.

#![allow(clippy::disallowed_methods, reason = "trees of the test's own")]

use std::sync::Arc;

use syncline_model::Kind;
use syncline_store::{Caps, Cond, Store, open};
use syncline_testkit::s3_server::S3Server;
use syncline_testkit::store_conformance::{Suite, key, listed, put, put_with, read, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_store_against_the_strict_server() {
    let server = S3Server::with_bucket("tree").await.unwrap();
    let store = open(&server.endpoint.place("tree"), server.endpoint.options())
        .await
        .unwrap();
    let caps = store.caps().clone();
    let wanted = Caps {
        if_absent: true,
        if_is: true,
        remove_if_is: true,
        sorted: true,
        tag_is_md5: true,
        metadata: true,
        reuse: true,
        ..Caps::LEAST
    };
    assert_eq!(caps, wanted, "the probe finds what the server does");
    run(store, Suite::FULL).await;
    let below = server
        .endpoint
        .store("tree/a prefix/%2B+")
        .await
        .unwrap()
        .probed()
        .await
        .unwrap();
    run(
        Arc::new(below),
        Suite {
            many: 30,
            ..Suite::FULL
        },
    )
    .await;
    let unprobed = server.endpoint.store("tree/unprobed").await.unwrap();
    assert_eq!(*unprobed.caps(), Caps::LEAST);
    run(
        Arc::new(unprobed),
        Suite {
            many: 30,
            ..Suite::FULL
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_store_against_s3s_fs() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::s3s_fs(dir.path()).await.unwrap();
    server.endpoint.make_bucket("tree").await.unwrap();
    let store = open(&server.endpoint.place("tree/below"), server.endpoint.options())
        .await
        .unwrap();
    println!("{:?}", store.caps());
    assert!(store.caps().if_absent && store.caps().if_is && !store.caps().remove_if_is);
    let suite = Suite {
        odd_keys: false,
        many: 200,
        listed_tags: false,
        listed_uploads: false,
        ..Suite::FULL
    };
    // s3s-fs checks and then writes without a lock: a race there has as many winners as luck will have.
    let caps = Caps {
        if_absent: false,
        if_is: false,
        ..store.caps().clone()
    };
    let options = syncline_store::OpenOptions {
        caps: Some(caps),
        ..server.endpoint.options()
    };
    run(
        open(&server.endpoint.place("tree/below"), options).await.unwrap(),
        suite,
    )
    .await;
}

/// Some servers say that they encode names in listings and do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b07_names_that_look_encoded_survive_a_server_that_lies_about_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::s3s_fs(dir.path()).await.unwrap();
    server.endpoint.make_bucket("tree").await.unwrap();
    let store = server.endpoint.store("tree").await.unwrap();
    for name in ["a+b%20c", "100%", "plain"] {
        put(&store, name, name.as_bytes(), Cond::Any).await.unwrap();
    }
    let found = listed(&store, "", None).await.unwrap();
    let names: Vec<&str> = found.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(names, ["100%", "a+b%20c", "plain"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_trees_in_one_bucket_do_not_see_each_other() {
    let server = S3Server::with_bucket("team").await.unwrap();
    let a = server.endpoint.store("team/a").await.unwrap();
    let b = server.endpoint.store("team/ab").await.unwrap();
    put(&a, "x", b"a", Cond::Any).await.unwrap();
    put(&b, "x", b"b", Cond::Any).await.unwrap();
    assert_eq!(read(&a, "x").await.unwrap(), b"a");
    assert_eq!(listed(&a, "", None).await.unwrap().len(), 1);
    a.remove(&[(key("x"), Cond::Any)]).await.remove(0).unwrap();
    assert_eq!(read(&b, "x").await.unwrap(), b"b");
    assert!(a.stat(&key("x")).await.unwrap_err().is(Kind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sk1_faults_name_the_place_and_no_secret() {
    let server = S3Server::with_bucket("tree").await.unwrap();
    let mut other = server.endpoint.clone();
    other.secret = "CANARY-wrong".into();
    let store = other.store("tree").await.unwrap();
    let fault = put(&store, "dir/file", b"x", Cond::Any).await.unwrap_err();
    assert!(fault.is(Kind::Denied), "{fault:?}");
    let said = format!("{fault} {fault:?} {:?}", fault.hint);
    assert!(
        said.contains("s3://tree/dir/file") && said.contains("SignatureDoesNotMatch"),
        "{said}"
    );
    assert!(fault.hint.is_some());
    assert!(!said.contains("CANARY") && !said.contains(&other.id), "{said}");
    let nowhere = server.endpoint.store("no-such-bucket").await.unwrap();
    assert!(
        listed(&nowhere, "", None).await.unwrap_err().is(Kind::NotFound),
        "a missing bucket is not an empty one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_asks_list_alone() {
    let server = S3Server::with_bucket("tree").await.unwrap();
    let options = server.endpoint.options();
    let meter = options.meter.clone();
    let store = open(&server.endpoint.place("tree"), options).await.unwrap();
    for n in 0..2500 {
        put(&*store, &format!("n{n:05}"), b"", Cond::Any).await.unwrap();
    }
    let before = meter.counts();
    let found = listed(&*store, "", None).await.unwrap();
    let after = meter.counts();
    assert_eq!(found.len(), 2500);
    assert_eq!(after.list - before.list, 3, "a thousand to a page");
    assert_eq!((after.head, after.get), (before.head, before.get));
    assert!(found.iter().all(|listed| listed.blob.md5.is_some()));
}

/// What the directory of a server holds is there again when it is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_server_keeps_its_objects() {
    let dir = tempfile::tempdir().unwrap();
    let (server, double) = S3Server::start_in(dir.path().join("s3"), 0).await.unwrap();
    double.make_bucket("demo").unwrap();
    let store = server.endpoint.store("demo").await.unwrap();
    put(&store, "a//b", b"kept", Cond::Any).await.unwrap();
    put(&store, "gone", b"", Cond::Any).await.unwrap();
    store.remove(&[(key("gone"), Cond::Any)]).await.remove(0).unwrap();
    drop(server);
    let (server, double) = S3Server::start_in(dir.path().join("s3"), 0).await.unwrap();
    assert_eq!(double.count("demo"), 1);
    assert_eq!(
        read(&server.endpoint.store("demo").await.unwrap(), "a//b")
            .await
            .unwrap(),
        b"kept"
    );
}

/// A stranger's program reads what we wrote and we read what it wrote, by the older listing too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone_and_we_see_the_same_bucket() {
    let server = S3Server::with_bucket("tree").await.unwrap();
    let store = server.endpoint.store("tree").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("theirs")).unwrap();
    put_with(
        &store,
        "a/b/ours+1 \u{fc}",
        b"ours",
        Cond::Any,
        &[("mtime", "1600000000.25")],
    )
    .await
    .unwrap();
    put(&store, "a.x", b"", Cond::Any).await.unwrap();
    let rclone = |words: &[&str]| {
        let mut command = std::process::Command::new("rclone");
        command
            .args(words)
            .args(["--copy-links", "--config", "/dev/null"])
            .env_remove("AWS_CA_BUNDLE")
            .env("TZ", "UTC");
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ENDPOINT", &server.endpoint.url),
            ("ACCESS_KEY_ID", &server.endpoint.id),
            ("SECRET_ACCESS_KEY", &server.endpoint.secret),
        ] {
            command.env(format!("RCLONE_CONFIG_X_{name}"), value);
        }
        command
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Ok(text) = rclone(&["lsl", "X:tree"]) else {
        println!("skipped: rclone is not installed");
        return;
    };
    assert!(
        text.contains("4 2020-09-13 12:26:40.250000000 a/b/ours+1 \u{fc}") && text.lines().count() == 2,
        "{text}"
    );
    assert_eq!(rclone(&["lsf", "X:tree"]).unwrap(), "a/\na.x\n");
    rclone(&["copy", &dir.path().display().to_string(), "X:tree/in/"]).unwrap();
    let theirs = store.stat(&key("in/theirs")).await.unwrap();
    assert!(theirs.metadata.unwrap().contains_key("mtime"));
}
