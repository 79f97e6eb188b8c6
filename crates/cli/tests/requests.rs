//! How many requests the real binary makes, counted by what stands between it and the bucket: a pass over what did not change, and a clone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that prints its figures"
)]

mod support;

use support::Desk;
use syncline_testkit::fault_proxy::{FaultProxy, Traffic};
use syncline_testkit::s3_server::S3Server;

/// Requests by kind.
#[derive(Debug, Default)]
struct Asked {
    list: u64,
    get: u64,
    head: u64,
    /// Writes, copies and removals.
    writes: u64,
    /// Of the reads those of the contents of files.
    contents: u64,
}

impl Asked {
    fn all(&self) -> u64 {
        self.list + self.get + self.head + self.writes
    }

    fn between(before: &Traffic, after: &Traffic) -> Self {
        let mut asked = Self::default();
        for (method, path) in &after.requests[before.requests.len()..] {
            match method.as_str() {
                "GET"
                    if path.starts_with("/team?")
                        || path.contains("?uploads")
                        || path.contains("uploadId=") =>
                {
                    asked.list += 1;
                }
                "GET" => {
                    asked.get += 1;
                    asked.contents += u64::from(!path.starts_with("/team/.syncline/"));
                }
                "HEAD" => asked.head += 1,
                _ => asked.writes += 1,
            }
        }
        asked
    }
}

/// Syncs so many files with a bucket, then once more without a change, then into an empty folder, and once more there.
fn count(files: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (_server, proxy) = runtime.block_on(async {
        let server = S3Server::with_bucket("team").await.unwrap();
        let proxy = FaultProxy::start(&server.endpoint).await.unwrap();
        (server, proxy)
    });
    let desk = Desk::new()
        .with("AWS_ENDPOINT_URL", proxy.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", proxy.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", proxy.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1");
    for n in 0..files {
        desk.write(&format!("anna/d{:03}/f{n:06}", n / 1000), &format!("file {n}"));
    }
    desk.dir("ben");
    let pages = files.div_ceil(1000);
    let run = |folder: &str| {
        let before = proxy.traffic();
        let ended = desk.ends(0, &["sync", folder, "s3://team", "--json"]);
        let asked = Asked::between(&before, &proxy.traffic());
        println!("{files} files, {folder}: {asked:?}, {} in all", asked.all());
        let told = &ended.summary()["requests"];
        for (name, counted) in [("list", asked.list), ("get", asked.get), ("head", asked.head)] {
            assert_eq!(
                told[name].as_u64(),
                Some(counted),
                "what the binary says of itself: {told}"
            );
        }
        asked
    };
    let unchanged = |asked: &Asked| {
        assert!(asked.list >= pages && asked.list <= pages + 4, "{asked:?}");
        assert!(asked.get + asked.head <= 2, "{asked:?}");
        assert_eq!(asked.writes, 0, "{asked:?}");
    };
    let pushed = run("anna");
    assert!(
        pushed.writes >= files,
        "each file is an object of its own: {pushed:?}"
    );
    unchanged(&run("anna"));
    let clone = run("ben");
    assert_eq!(clone.contents, files, "each content once: {clone:?}");
    let besides = clone.all() - clone.contents;
    assert!(
        besides <= 3 * pages.max(10),
        "{besides} besides the contents: {clone:?}"
    );
    unchanged(&run("ben"));
    let tree = desk.tree("ben");
    assert!(tree == desk.tree("anna") && tree.len() as u64 == files + pages);
}

#[test]
fn b08_requests_of_the_binary_for_5000_objects() {
    count(5_000);
}

/// Three requests to a page: 300 for a hundred thousand besides the contents, and 104 listings of them.
#[test]
#[ignore = "takes minutes: a hundred thousand objects, four times"]
fn b08_requests_of_the_binary_for_100000_objects() {
    count(100_000);
}
