//! The real binary and servers that speak TLS: one whose time is over, and one that points to a place that speaks none.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::Desk;
use syncline_testkit::fault_proxy::{FaultProxy, Rule, Wire};
use syncline_testkit::s3_server::S3Server;
use syncline_testkit::tls_front::{Certificate, TlsFront};

struct Rig {
    runtime: tokio::runtime::Runtime,
    server: S3Server,
    proxy: FaultProxy,
    _front: TlsFront,
    desk: Desk,
}

/// A bucket behind TLS with a certificate that is good until that year; `None` where none can be made.
fn rig(until: u32) -> Option<Rig> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let desk = Desk::new();
    let certificate = Certificate::make(&desk.dir("certificate"), until).unwrap();
    let Some(certificate) = certificate else {
        println!("skipped: openssl is not installed");
        return None;
    };
    let (server, proxy, front) = runtime.block_on(async {
        let server = S3Server::with_bucket("team").await.unwrap();
        let proxy = FaultProxy::start(&server.endpoint).await.unwrap();
        let front = TlsFront::start(&proxy.endpoint, &certificate).await.unwrap();
        (server, proxy, front)
    });
    let desk = desk
        .with("AWS_ENDPOINT_URL", front.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", front.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", front.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1")
        .with("SSL_CERT_FILE", certificate.file.to_str().unwrap());
    desk.write("anna/file", "Anna's");
    Some(Rig {
        runtime,
        server,
        proxy,
        _front: front,
        desk,
    })
}

#[test]
fn b05_a_certificate_that_has_expired_is_said_and_nothing_is_sent() {
    let Some(rig) = rig(2021) else { return };
    let ended = rig.desk.ends(4, &["sync", "anna", "s3://team"]);
    assert!(
        ended.err.contains("expired") && ended.err.contains("SSL_CERT_FILE"),
        "{}",
        ended.err
    );
    assert_eq!(
        rig.proxy.traffic().requests,
        [],
        "without trust there is no request"
    );
    assert_eq!(rig.desk.read("anna/file").unwrap(), "Anna's");
}

#[test]
fn sk4_nothing_is_sent_unencrypted_where_tls_was_asked_for() {
    let Some(rig) = rig(2100) else { return };
    rig.desk.ends(0, &["sync", "anna", "s3://team"]);
    assert!(!rig.proxy.traffic().requests.is_empty(), "the way works");
    let elsewhere = rig
        .runtime
        .block_on(FaultProxy::start(&rig.server.endpoint))
        .unwrap();
    rig.desk.write("anna/file", "Anna's edit");
    rig.desk.write("anna/new", "Anna's new file");
    for method in ["GET", "PUT"] {
        let to = Wire::Redirect(format!("{}/team/file", elsewhere.endpoint.url));
        rig.proxy.rule(Rule {
            times: 1000,
            ..Rule::once(method, "", to.clone())
        });
        let ended = rig.desk.run(&["sync", "anna", "s3://team"]);
        assert!(
            ended.code != 0 && ended.err.contains("redirects are not followed"),
            "{method}: {ended:?}"
        );
        assert!(rig.proxy.made(&to) > 0);
        rig.proxy.heal();
    }
    assert_eq!(
        elsewhere.traffic().requests,
        [],
        "neither bytes nor credentials went there"
    );
    rig.desk.ends(0, &["sync", "anna", "s3://team"]);
    rig.desk.dir("ben");
    rig.desk.ends(0, &["sync", "ben", "s3://team"]);
    assert_eq!(rig.desk.tree("ben"), rig.desk.tree("anna"));
}
