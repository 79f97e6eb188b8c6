//! Names of one file, through a bucket that can only tell of them.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::fs::{OpenOptions, Permissions, hard_link, rename, set_permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use support::Desk;
use syncline_testkit::s3_server::S3Server;

const NAMES: [&str; 3] = ["d/one", "d/two", "e/three"];

fn office() -> (tokio::runtime::Runtime, S3Server, Desk) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(S3Server::with_bucket("team")).unwrap();
    let desk = Desk::new()
        .with("AWS_ENDPOINT_URL", server.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", server.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", server.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1");
    for who in ["anna", "ben", "carol"] {
        desk.dir(who);
    }
    (runtime, server, desk)
}

/// Which of these names are one file, by the first of them.
fn groups(desk: &Desk, who: &str, names: &[&str]) -> Vec<usize> {
    let inode = |name: &&str| desk.path(&format!("{who}/{name}")).metadata().unwrap().ino();
    let inodes: Vec<u64> = names.iter().map(inode).collect();
    let first = |inode: &u64| inodes.iter().position(|other| other == inode).unwrap();
    inodes.iter().map(first).collect()
}

fn sync(desk: &Desk, who: &str) {
    desk.ends(0, &["sync", who, "s3://team/tree"]);
}

/// A pass that finds nothing to do.
fn settled(desk: &Desk, who: &str) {
    let ended = desk.ends(0, &["sync", who, "s3://team/tree", "--json"]);
    assert!(ended.events("step").is_empty(), "{}", ended.out);
    assert_eq!(ended.summary()["requests"]["put"], 0, "{}", ended.out);
}

#[test]
fn s30_names_of_one_file_are_one_again_behind_a_bucket() {
    let (_runtime, _server, desk) = office();
    desk.write("anna/d/one", "one file of three names");
    desk.dir("anna/e");
    for name in ["d/two", "e/three"] {
        hard_link(desk.path("anna/d/one"), desk.path(&format!("anna/{name}"))).unwrap();
    }
    desk.write("anna/alike", "one file of three names");
    sync(&desk, "anna");
    settled(&desk, "anna");
    sync(&desk, "ben");
    assert_eq!(groups(&desk, "ben", &NAMES), [0, 0, 0]);
    let five = ["d/one", "d/two", "e/three", "alike"];
    assert_eq!(groups(&desk, "ben", &five), [0, 0, 0, 3], "alike is not the same");
    settled(&desk, "ben");
    // An edit of one name reaches all, here and there.
    let mut file = OpenOptions::new()
        .append(true)
        .open(desk.path("ben/d/two"))
        .unwrap();
    file.write_all(b", edited").unwrap();
    drop(file);
    sync(&desk, "ben");
    sync(&desk, "anna");
    for name in NAMES {
        let text = desk.read(&format!("anna/{name}")).unwrap();
        assert_eq!(text, "one file of three names, edited", "{name}");
    }
    assert_eq!(groups(&desk, "anna", &five), [0, 0, 0, 3]);
    settled(&desk, "anna");
    settled(&desk, "ben");
    // So do attributes.
    set_permissions(desk.path("anna/e/three"), Permissions::from_mode(0o600)).unwrap();
    sync(&desk, "anna");
    settled(&desk, "anna");
    sync(&desk, "ben");
    sync(&desk, "ben");
    settled(&desk, "ben");
    let mode = desk.path("ben/d/one").metadata().unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
    // A name more joins those that are there, for others too.
    hard_link(desk.path("ben/e/three"), desk.path("ben/e/four")).unwrap();
    sync(&desk, "ben");
    settled(&desk, "ben");
    sync(&desk, "carol");
    let all = ["d/one", "d/two", "e/three", "e/four"];
    assert_eq!(groups(&desk, "carol", &all), [0, 0, 0, 0]);
    sync(&desk, "anna");
    assert_eq!(groups(&desk, "anna", &all), [0, 0, 0, 0]);
    // A name that becomes a file of its own leaves the others together.
    desk.write("carol/draft", "of its own");
    rename(desk.path("carol/draft"), desk.path("carol/d/two")).unwrap();
    sync(&desk, "carol");
    sync(&desk, "anna");
    assert_eq!(groups(&desk, "anna", &all), [0, 1, 0, 0]);
    assert_eq!(desk.read("anna/d/two").unwrap(), "of its own");
    assert_eq!(
        desk.read("anna/d/one").unwrap(),
        "one file of three names, edited"
    );
    for who in ["anna", "carol"] {
        settled(&desk, who);
    }
}
