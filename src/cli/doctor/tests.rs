//! The doctor on a server that is well, and on some that are not.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{Finding, Mark, Patient, render, steps::examine};
use crate::{
    config::Config,
    keys::SigningKey,
    peer::{Gate, Internet, Reach},
    server::{real_ports, tests::federation::Town},
};

/// Has the owner of `config` look at `server`.
async fn look(town: &Town, config: &Config, key: Option<SigningKey>, server: &str) -> Vec<Finding> {
    let ports = real_ports();
    let gate = Gate { allow: config.federation.allow_ranges.clone(), deny: Vec::new() };
    let reach = Reach { gate, roots: config.federation.roots.clone(), ..Reach::default() };
    let net = Internet::with_dns(town.names.clone(), reach, ports.clone(), TaskTracker::new()).unwrap();
    let own = config.server_name == server;
    examine(&Patient { net: Arc::new(net), ports, key, server: server.try_into().unwrap(), own }).await
}

fn key_of(running: &crate::server::Running) -> SigningKey {
    let app = running.app();
    SigningKey::from_text(app.server_name.clone(), &app.signing_key.to_text()).unwrap()
}

#[track_caller]
fn failed(findings: &[Finding], step: &str, words: &str) {
    let text = render(findings);
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.mark == Mark::Bad).collect();
    assert!(matches!(bad[..], [one] if one.step == step), "{text}");
    assert!(text.contains(words), "{text}");
}

#[tokio::test]
async fn what_is_well_and_what_is_not() {
    let town = Town::new();
    let (config, other) = (town.config("a.test", "a.test"), town.config("b.test", "wrong.test"));
    let a = town.start(config.clone()).await;
    let b = town.start(other).await;

    let findings = look(&town, &config, Some(key_of(&a)), "a.test").await;
    let text = render(&findings);
    assert!(findings.iter().all(|finding| finding.mark != Mark::Bad), "{text}");
    assert!(text.contains("%2F in its path arrives unchanged"), "{text}");
    assert!(text.contains("it is Lockstep"), "{text}");

    failed(&look(&town, &config, None, "b.test").await, "tls", "must name b.test");
    failed(
        &look(&town, &config, None, "nowhere.test").await,
        "address",
        "add an A or AAAA record for nowhere.test",
    );
    let foreign = SigningKey::from_seed(config.server_name.clone(), "other", [5; 32]).unwrap();
    let findings = look(&town, &config, Some(foreign), "a.test").await;
    let text = render(&findings);
    assert!(
        text.contains("signs with ed25519:other, but publishes") && text.contains("is refused with 401"),
        "{text}"
    );
    let mut shy = config.clone();
    shy.federation.allow_ranges.clear();
    failed(&look(&town, &shy, None, "a.test").await, "address", "give a.test a public address");
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}
