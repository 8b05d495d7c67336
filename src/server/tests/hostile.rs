//! What those do who mean no good, over real sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::config;
use crate::{
    config::{Address, Config, Engine},
    limits::{BODY_SECONDS_MAX, HEAD_SECONDS_MAX},
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
    for purpose in [Purpose::Push, Purpose::Appservice, Purpose::Provider, Purpose::Captcha, Purpose::Page] {
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
