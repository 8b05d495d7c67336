//! What those do who mean no good, over real sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::config;
use crate::{
    config::{Address, Config, Engine},
    limits::{
        BODY_SECONDS_MAX, FEDERATION_BODY_BYTES_MAX, HEAD_SECONDS_MAX, OPEN_BODIES_EACH, OPEN_BODY_BYTES_MAX,
        SERVER_BODIES_EACH, STREAMS_MAX,
    },
    peer::{Bounds, Net, Purpose},
    server::{Running, internet, real_ports},
};

/// How often somebody slow sends another byte.
const DRIP: Duration = Duration::from_secs(7);

/// Sends `start`, then byte after byte, until the server has had enough: after which time, and what it says.
async fn drip(running: &Running, start: &str) -> (Duration, String) {
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let begun = Instant::now();
    writer.write_all(start.as_bytes()).await.unwrap();
    let dripping = async move {
        loop {
            tokio::time::sleep(DRIP).await;
            if writer.write_all(b"a").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dripping => unreachable!("it goes on for ever"),
        _ = reader.read_to_end(&mut answer) => {}
    }
    (begun.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

/// Row 7.13: whoever sends slowly holds a connection for a while, and not for as long as they like. The clock moves on
/// when there is nothing else to do.
#[tokio::test(start_paused = true)]
async fn row_7_13_whoever_sends_slowly_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let head = "POST /_matrix/client/v3/login HTTP/1.1\r\nhost: x\r\n";
    for (start, most) in [
        // Not a byte, half a word that may become either protocol, half a head.
        (String::new(), HEAD_SECONDS_MAX),
        (String::from("PR"), HEAD_SECONDS_MAX * 2),
        (format!("{head}x: "), HEAD_SECONDS_MAX),
        (format!("{head}content-length: 1000\r\nconnection: close\r\n\r\n{{"), BODY_SECONDS_MAX),
        (format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\nfff\r\n"), BODY_SECONDS_MAX),
    ] {
        let (took, answer) = drip(&running, &start).await;
        assert!(took <= most + DRIP * 2, "{start:?}: {took:?}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{start:?}: {answer}");
    }
    running.stop().await.unwrap();
}

/// The answer to `text`, sent from `ip`, which is one of this machine's.
async fn say(running: &Running, ip: &str, text: &str) -> String {
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    let (mut reader, mut writer) = socket.connect(address).await.unwrap().into_split();
    // It may be answered before everything is sent.
    let _ = writer.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Connections with as many requests as they carry, each of which sends half a body and no more until `stopping`;
/// how many are answered all the same.
async fn halves(
    running: &Running,
    (target, length): (&'static str, usize),
    (tasks, stopping): (&TaskTracker, &CancellationToken),
) -> Arc<AtomicUsize> {
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..CONNECTIONS {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tasks.spawn(connection);
        for _ in 0..STREAMS_MAX {
            let half = stream::iter([Ok(Bytes::from_static(b"{"))]);
            let stopping = stopping.clone();
            let end = stream::once(async move {
                stopping.cancelled().await;
                Err(std::io::Error::other("given up"))
            });
            let (method, path) = target.split_once(' ').unwrap();
            let request = Request::builder().method(method).uri(format!("http://localhost{path}"));
            let request = request.header("content-length", length);
            let request = request.body(Body::from_stream(half.chain(end))).unwrap();
            let (mut sender, answered) = (sender.clone(), answered.clone());
            tasks.spawn(async move {
                let answer = sender.send_request(request).await;
                answered.fetch_add(usize::from(answer.is_ok()), Ordering::SeqCst);
            });
        }
    }
    answered
}

/// Connections of one address.
const CONNECTIONS: usize = 4;

/// Row 7.13: whoever sends half of many bodies, and has not said who they are, holds nothing that others need; and they
/// send little.
#[tokio::test]
async fn row_7_13_half_bodies_of_strangers_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let most = CONNECTIONS * usize::try_from(STREAMS_MAX).unwrap();
    let refused =
        halves(&running, ("POST /_matrix/client/v3/refresh", OPEN_BODY_BYTES_MAX), (&tasks, &stopping)).await;
    // Those wait for a while before they are refused. However much they are to send, nothing is set aside for it.
    halves(&running, ("PUT /_matrix/federation/v1/send/1", FEDERATION_BODY_BYTES_MAX), (&tasks, &stopping))
        .await;
    // There the body means nothing, so it is not waited for.
    let answered = halves(&running, ("GET /_matrix/client/versions", 1_000), (&tasks, &stopping)).await;
    let settling = tokio::time::timeout(Duration::from_secs(30), async {
        let unproven = || running.app().bodies.unproven();
        while refused.load(Ordering::SeqCst) + OPEN_BODIES_EACH < most
            || unproven() < OPEN_BODIES_EACH + SERVER_BODIES_EACH
            || answered.load(Ordering::SeqCst) < most
        {
            tokio::task::yield_now().await;
        }
    });
    let has_settled = settling.await.is_ok();
    let end = "host: localhost\r\nconnection: close\r\n";
    let unknown = r#"{"type":"m.nonsense"}"#;
    for (ip, text, expected) in [
        ("127.0.0.1", format!("GET /_matrix/client/versions HTTP/1.1\r\n{end}\r\n"), "200"),
        (
            "127.0.0.1",
            format!("GET /_matrix/client/versions HTTP/1.1\r\n{end}content-length: 9\r\n\r\n{{"),
            "200",
        ),
        (
            "127.0.0.2",
            format!("POST /_matrix/client/v3/login HTTP/1.1\r\n{end}content-length: 21\r\n\r\n{unknown}"),
            "400",
        ),
        ("127.0.0.2", format!("GET /_matrix/federation/v1/event/$x HTTP/1.1\r\n{end}\r\n"), "401"),
        (
            "127.0.0.2",
            format!("PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\n{end}content-length: 2\r\n\r\n{{}}"),
            "401",
        ),
        (
            "127.0.0.2",
            format!(
                "PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\n{end}content-length: 100000\r\n\r\n{{}}{}",
                " ".repeat(99_998)
            ),
            "401",
        ),
    ] {
        let begun = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(10), say(&running, ip, &text)).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {text}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{text}: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{text}: {:?}", begun.elapsed());
    }
    assert!(has_settled, "they are not refused");
    let refresh = format!("POST /_matrix/client/v3/refresh HTTP/1.1\r\n{end}");
    for (extra, expected) in [(0, "400"), (1, "413")] {
        let (length, body) = (OPEN_BODY_BYTES_MAX + extra, " ".repeat(OPEN_BODY_BYTES_MAX + extra));
        for text in [
            format!("{refresh}content-length: {length}\r\n\r\n{body}"),
            format!("{refresh}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let answer = say(&running, "127.0.0.2", &text).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{extra}: {answer}");
            assert_eq!(answer.contains("M_TOO_LARGE"), extra == 1, "{answer}");
        }
    }
    stopping.cancel();
    running.stop().await.unwrap();
}

/// Row 4.6: where a gateway, or anybody else who is asked, sends us by a redirect, we do not go.
#[tokio::test]
async fn row_4_6_nobody_sends_us_elsewhere() {
    let (open, inner) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await);
    let (inner, reached) = (inner.unwrap(), Arc::new(AtomicUsize::new(0)));
    let (public, private) = (open.local_addr().unwrap(), inner.local_addr().unwrap());
    let tasks = TaskTracker::new();
    let redirecting = tasks.spawn(async move {
        loop {
            let (mut stream, _) = open.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{private}/secret\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let counted = reached.clone();
    let counting = tasks.spawn(async move {
        loop {
            drop(inner.accept().await);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut config = Config::default();
    let near = || vec!["127.0.0.0/8".parse().unwrap()];
    (config.push.allow_ranges, config.captcha.allow_ranges) = (near(), near());
    config.media.url_preview_allow_ranges = near();
    let net = internet(&config, &real_ports(), None, &tasks).unwrap();
    for purpose in
        [Purpose::Push, Purpose::Appservice, Purpose::Provider, Purpose::Sfu, Purpose::Captcha, Purpose::Page]
    {
        let request = Request::post(format!("http://{public}/_matrix/push/v1/notify")).body(Bytes::new());
        let bounds = Bounds::new(Duration::from_secs(10), 4096);
        let answer = net.visit(purpose, request.unwrap(), bounds).await.unwrap();
        assert_eq!(answer.status(), 307, "{purpose:?}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0, "a redirect was followed");
    net.close();
    redirecting.abort();
    counting.abort();
}
