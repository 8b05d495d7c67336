//! Whole servers in this process: start, answer, stop.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{Running, StartError};
use crate::config::{Address, Config, Engine, Listen};

fn config(folder: &Path, engine: Engine) -> Config {
    let mut config = Config::default();
    config.data_dir = folder.join("data");
    config.store.engine = engine;
    config.listen = vec![
        Listen::plain("127.0.0.1:0".parse().unwrap()),
        Listen::plain(Address::Unix(folder.join("lockstep.sock"))),
    ];
    config
}

/// One HTTP/1.1 exchange; the whole answer as text.
async fn exchange<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, request: &str) -> String {
    let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(running: &Running, request: &str) -> String {
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

#[tokio::test]
async fn starts_answers_and_stops_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let running = Running::start(config(folder.path(), Engine::Embedded)).await.unwrap();
        let versions = ask(&running, "GET /_matrix/client/versions").await;
        assert!(versions.starts_with("HTTP/1.1 200") && versions.contains(r#""v1.10""#), "{versions}");
        assert!(versions.contains("access-control-allow-origin: *"), "{versions}");
        assert!(ask(&running, "GET /health").await.ends_with("OK\n"));
        let socket = UnixStream::connect(folder.path().join("lockstep.sock")).await.unwrap();
        let metrics = exchange(socket, "GET /metrics").await;
        assert!(metrics.contains("lockstep_log_head"), "{metrics}");
        assert!(metrics.contains(r#"route="/_matrix/client/versions""#), "{metrics}");
        keys.push(running.app().signing_key.to_text());
        running.stop().await.unwrap();
    }
    assert_eq!(keys[0], keys[1], "the key is made once");
    let data = folder.path().join("data");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("signing.key")), 0o600);
    assert_eq!(mode(&data.join("registration.secret")), 0o600);
    assert!(!folder.path().join("lockstep.sock").exists());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    let mut idle = TcpStream::connect(address).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    tokio::time::timeout(Duration::from_secs(5), running.stop()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_taken_address_and_a_damaged_key_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let mut second = config(folder.path(), Engine::Memory);
    second.listen = vec![Listen::plain(running.addresses()[0].clone())];
    let error = Running::start(second).await.err().unwrap();
    assert!(matches!(error, StartError::Listen(_)), "{error}");
    running.stop().await.unwrap();

    std::fs::write(folder.path().join("data/signing.key"), "nonsense").unwrap();
    let error = Running::start(config(folder.path(), Engine::Memory)).await.err().unwrap();
    assert!(matches!(error, StartError::Folder(_)) && error.to_string().contains("signing.key"), "{error}");
}
