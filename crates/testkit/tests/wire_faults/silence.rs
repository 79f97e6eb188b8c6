//! Where nobody answers: what is asked is given up in time, asked again, and done once.

use std::time::Duration;

use syncline_model::Kind;
use syncline_store::Cond;
use syncline_testkit::fault_proxy::{Rule, Wire};
use syncline_testkit::store_conformance::{key, listed, noise, put, read};

use crate::rig::{Rig, fault, rig_with};

const PATIENCE: Duration = Duration::from_secs(1);

async fn impatient() -> Rig {
    rig_with(|options| options.sizes.stall = PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_a_request_without_an_answer_is_given_up_and_asked_again() {
    let rig = impatient().await;
    let body = noise(50_000, 3);
    for (n, wrong) in [Wire::SilentBefore, Wire::SilentAfter, Wire::ContinueOnly]
        .into_iter()
        .enumerate()
    {
        let name = format!("k{n}");
        for method in ["PUT", "HEAD", "GET", "DELETE"] {
            rig.proxy.rule(Rule::once(method, &name, wrong.clone()));
        }
        let before = rig.requests();
        let made = put(&*rig.store, &name, &body, Cond::Absent)
            .await
            .unwrap_or_else(|f| panic!("{wrong:?}: {f:?}"));
        // The write again, and a look whether the refusal of the second was for the success of the first.
        assert!(rig.requests() - before <= 4, "{wrong:?}");
        assert_eq!(made.tag, rig.direct.stat(&key(&name)).await.unwrap().tag);
        rig.store.stat(&key(&name)).await.unwrap();
        assert!(read(&*rig.store, &name).await.unwrap() == body, "{wrong:?}");
        let removed = rig.store.remove(&[(key(&name), Cond::Is(made.tag))]).await;
        assert!(removed[0].is_ok(), "{wrong:?}: {removed:?}");
        assert!(rig.direct.stat(&key(&name)).await.unwrap_err().is(Kind::NotFound));
        assert_eq!(rig.proxy.made(&wrong), 4, "{wrong:?} was met by each verb");
        assert!(
            rig.requests() - before <= 12,
            "{wrong:?}: {:?}",
            rig.proxy.traffic().requests
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_a_body_that_stops_is_read_on_and_a_page_that_stops_is_asked_for_again() {
    let rig = impatient().await;
    let body = noise(300_000, 3);
    put(&*rig.direct, "k", &body, Cond::Any).await.unwrap();
    rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::StopsInBody));
    assert!(read(&*rig.store, "k").await.unwrap() == body);
    assert_eq!(rig.proxy.made(&Wire::StopsInBody), 1);
    let asked = rig.proxy.traffic().requests;
    assert_eq!(asked.iter().filter(|(method, _)| method == "GET").count(), 2);
    for wrong in [Wire::StopsInBody, Wire::SilentBefore, Wire::ContinueOnly] {
        rig.proxy.rule(Rule::once("GET", "max-keys=1000", wrong));
    }
    assert_eq!(listed(&*rig.store, "", None).await.unwrap().len(), 1);
    assert_eq!(rig.proxy.made(&Wire::ContinueOnly), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_who_never_answers_is_asked_a_few_times_and_named() {
    for by_call in [false, true] {
        let rig = rig_with(|options| {
            options.retry.tries = 3;
            if by_call {
                options.deadline = PATIENCE;
            } else {
                options.sizes.stall = PATIENCE;
            }
        })
        .await;
        rig.proxy.rule(Rule {
            times: u64::MAX,
            ..Rule::once("", "", Wire::SilentBefore)
        });
        let said = fault(put(&*rig.store, "k", b"x", Cond::Absent).await);
        assert!(said.is(Kind::Offline), "{said:?}");
        assert!(said.to_string().contains("s3://tree"), "{said}");
        assert_eq!(rig.proxy.made(&Wire::SilentBefore), 3);
        assert_eq!(rig.requests(), 3);
        rig.proxy.heal();
        put(&*rig.store, "k", b"x", Cond::Absent).await.unwrap();
    }
}
