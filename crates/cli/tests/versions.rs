//! A bucket that keeps versions, with the real binary: they serve as its trash.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::Desk;
use syncline_testkit::moto::Moto;
use syncline_testkit::store_conformance::listed;

#[test]
fn s19_versions_of_a_bucket_serve_as_its_trash() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let Some(moto) = runtime.block_on(Moto::start()) else {
        return;
    };
    runtime
        .block_on(moto.endpoint.make_versioned_bucket("kept"))
        .unwrap();
    let desk = Desk::new()
        .with("AWS_ENDPOINT_URL", moto.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", moto.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", moto.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1");
    let said = desk.ends(0, &["doctor", "s3://kept/tree"]);
    assert!(
        said.out.contains("the versions that the bucket keeps anyway"),
        "{}",
        said.out
    );
    let large = "a text of some length\n".repeat(1000);
    desk.write("anna/d/edited", &large);
    desk.write("anna/removed", "removed");
    for n in 0..12 {
        desk.write(&format!("anna/other-{n}"), "other");
    }
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    desk.write("anna/d/edited", "short");
    desk.remove("anna/removed");
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    let trash = || {
        runtime.block_on(async {
            let store = moto.endpoint.store("kept/tree").await.unwrap();
            let listed = listed(&store, ".syncline/trash/", None).await.unwrap();
            listed.iter().map(|listed| listed.blob.size).collect::<Vec<_>>()
        })
    };
    assert_eq!(trash(), [3989, 3989], "notes of versions and no copies");
    let listed = desk.ends(0, &["trash", "list", "--json"]);
    assert!(
        listed.out.contains("d/edited") && listed.out.contains("removed"),
        "{}",
        listed.out
    );
    assert!(listed.out.contains(&large.len().to_string()), "{}", listed.out);
    // A path, and then the whole run.
    desk.ends(0, &["restore", "removed"]);
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    assert_eq!(desk.read("anna/removed").unwrap(), "removed");
    desk.write("anna/d/edited", "again");
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    desk.ends(0, &["undo"]);
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    assert_eq!(desk.read("anna/d/edited").unwrap(), "short");
    desk.ends(0, &["trash", "empty", "--yes"]);
    assert_eq!(trash(), [0; 0]);
    desk.ends(0, &["sync", "anna", "s3://kept/tree"]);
    desk.dir("new");
    desk.ends(0, &["sync", "new", "s3://kept/tree"]);
    assert_eq!(
        desk.tree("new"),
        desk.tree("anna"),
        "what stands is never dropped"
    );
}
