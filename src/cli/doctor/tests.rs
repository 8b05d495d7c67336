//! The doctor on a server that is well, and on some that are not.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{Finding, Mark, Patient, bodies::Sizes, render, start, steps::examine};
use crate::{
    config::Config,
    http::tests::Lines,
    keys::{SigningKey, canonical_text, parse_object},
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
    let (key, server) = (key.map(Arc::new), server.try_into().unwrap());
    let sizes = own.then_some(Sizes { upload_mib: 5, base_url: None });
    examine(&Patient { net: Arc::new(net), ports, key, server, own, sizes }).await
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
    assert!(text.contains("a transaction of 4 MiB comes through"), "{text}");
    // The server refuses it before it has read all, and may close the connection before that is read here.
    let ends = ["a file of 5 MiB comes through", "not known: a file of 5 MiB was cut off ("];
    assert!(ends.iter().any(|end| text.contains(end)), "{text}");

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

/// What a server that is not well answers to a path: status, head and body.
type Answers = fn(&str) -> (u16, &'static str, String);

/// Something that listens for `name` and answers as a badly kept server does, until the test ends.
async fn sick(town: &Town, name: &str, answers: Answers) -> JoinHandle<()> {
    let tls = town.acceptor(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    town.names.listen(name, listener.local_addr().unwrap().port());
    TaskTracker::new().spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let (status, extra, body) = answers(head.split(' ').nth(1).unwrap_or_default());
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
            // Whoever still sends would not get to read the answer otherwise.
            let mut nowhere = tokio::io::sink();
            let rest = tokio::io::copy(&mut stream, &mut nowhere);
            drop(tokio::time::timeout(Duration::from_secs(5), rest).await);
        }
    })
}

/// A key document of `sick.test`.
fn document() -> String {
    let key = SigningKey::from_seed("sick.test".try_into().unwrap(), "1", [3; 32]).unwrap();
    let text = format!(
        r#"{{"server_name":"sick.test","valid_until_ts":{},"old_verify_keys":{{}},"verify_keys":{{"{}":{{"key":"{}"}}}}}}"#,
        real_ports().clock.now_ms() + 86_400_000,
        key.key_id(),
        key.public_key().encode()
    );
    let mut object = parse_object(&text).unwrap();
    key.sign_json(&mut object).unwrap();
    canonical_text(&object)
}

fn version() -> String {
    String::from(r#"{"server":{"name":"Sick","version":"1"}}"#)
}

/// The usual mistakes, each found in its step, with the line that puts it right.
#[tokio::test]
async fn each_mistake_comes_with_its_own_line() {
    let well = |path: &str| match path {
        "/_matrix/federation/v1/version" => (200, "", version()),
        "/_matrix/key/v2/server" => (200, "", document()),
        _ => (200, "", String::from(r#"{"text":"a/b c+d%e#f"}"#)),
    };
    let cases: [(Answers, &str, &str); 6] = [
        (|_| (200, "", String::from("<html>Welcome!</html>")), "http", "everything under /_matrix"),
        (|_| (502, "", String::from("Bad gateway")), "http", "everything under /_matrix"),
        (
            |path| match path {
                "/_matrix/federation/v1/version" => (200, "", version()),
                _ => (404, "", String::from("<html>")),
            },
            "keys",
            "/_matrix/key included",
        ),
        (
            |path| match path {
                "/_matrix/federation/v1/version" => (200, "", version()),
                _ => (200, "", String::from("<html>")),
            },
            "keys",
            "/_matrix/key included",
        ),
        (
            |path| match path {
                "/_matrix/key/v2/server" => (200, "", document()),
                _ => (200, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", version()),
            },
            "clock",
            "timedatectl set-ntp true",
        ),
        (
            |path| match path {
                "/_matrix/federation/v1/version" => (200, "", version()),
                "/_matrix/key/v2/server" => (200, "", document()),
                // A proxy that decodes %2F.
                _ => (200, "", String::from(r#"{"text":"a"}"#)),
            },
            "signature",
            "AllowEncodedSlashes NoDecode",
        ),
    ];
    let town = Town::new();
    let config = town.config("a.test", "a.test");
    let key = || SigningKey::from_seed(config.server_name.clone(), "1", [5; 32]).unwrap();
    let site = sick(&town, "sick.test", well).await;
    let findings = look(&town, &config, Some(key()), "sick.test").await;
    assert!(findings.iter().all(|finding| finding.mark != Mark::Bad), "{}", render(&findings));
    site.abort();
    for (answers, step, words) in cases {
        let site = sick(&town, "sick.test", answers).await;
        let key = (step == "signature").then(key);
        failed(&look(&town, &config, key, "sick.test").await, step, words);
        site.abort();
    }
    // An SRV record to a port on which nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    town.names.listen("closed.test", closed.local_addr().unwrap().port());
    drop(closed);
    failed(&look(&town, &config, None, "closed.test").await, "tls", "open the port in the firewall");
}

/// A proxy that lets little through, in front of a server that is well.
#[tokio::test]
async fn a_proxy_that_refuses_large_bodies_is_found() {
    let town = Town::new();
    let config = Config { server_name: "sick.test".try_into().unwrap(), ..town.config("a.test", "a.test") };
    let site = sick(&town, "sick.test", |path| match path {
        "/_matrix/federation/v1/version" => (200, "", version()),
        "/_matrix/key/v2/server" => (200, "", document()),
        path if path.starts_with("/_matrix/federation/v1/send/") => {
            (413, "", String::from("<html><h1>413 Request Entity Too Large</h1></html>"))
        }
        _ => (200, "", String::from(r#"{"text":"a/b c+d%e#f"}"#)),
    })
    .await;
    let key = SigningKey::from_seed(config.server_name.clone(), "1", [3; 32]).unwrap();
    let findings = look(&town, &config, Some(key), "sick.test").await;
    site.abort();
    failed(&findings, "body", "client_max_body_size 5M;");
}

/// What the server looks at by itself when it starts: nothing large, nothing when it is not wanted.
#[tokio::test]
async fn a_server_that_starts_looks_at_itself() {
    let town = Town::new();
    let config = town.config("a.test", "a.test");
    let mut silent = town.config("b.test", "b.test");
    silent.federation.check_at_start = false;
    let local = town.config("localhost", "localhost");
    let (a, b, c) = (town.start(config).await, town.start(silent).await, town.start(local).await);
    assert!(start::patient(&b).is_none() && start::patient(&c).is_none());
    let patient = start::patient(&a).unwrap();
    let findings = examine(&patient).await;
    assert!(findings.iter().all(|finding| finding.mark != Mark::Bad), "{}", render(&findings));
    assert!(!render(&findings).contains("MiB"), "{}", render(&findings));
    let gone = Patient { server: "gone.test".try_into().unwrap(), ..patient };
    let findings = examine(&gone).await;
    // See `http::tests`: a single subscriber may be asked by other threads first.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    start::tell(&findings);
    drop(guard);
    let text = lines.text();
    assert!(text.contains("WARN") && text.contains("add an A or AAAA record for gone.test"), "{text}");
    drop(gone);
    for server in [a, b, c] {
        server.stop().await.unwrap();
    }
}
