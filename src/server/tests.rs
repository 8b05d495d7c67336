//! Whole servers in this process: start, answer, stop.

mod captcha;
mod coming;
pub(crate) mod federation;
mod hostile;
mod media;
mod media_bound;
mod world;

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{Running, StartError};
use crate::config::{Address, Config, Engine, Listen, Storage};

fn config(folder: &Path, engine: Engine) -> Config {
    let listen = vec![
        Listen::plain("127.0.0.1:0".parse().unwrap()),
        Listen::plain(Address::Unix(folder.join("lockstep.sock"))),
    ];
    let store = Storage { engine, ..Storage::default() };
    Config { data_dir: folder.join("data"), store, listen, ..Config::default() }
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
        assert!(metrics.contains("lockstep_destinations_failing 0\n"), "{metrics}");
        assert!(metrics.contains("lockstep_state_setbacks_total 0\n"), "{metrics}");
        assert!(metrics.contains("# TYPE lockstep_destination_waiting gauge\n"), "{metrics}");
        let socket = UnixStream::connect(folder.path().join("lockstep.sock")).await.unwrap();
        let destinations = exchange(socket, "GET /_lockstep/federation/destinations").await;
        assert!(destinations.ends_with(r#"{"destinations":[]}"#), "{destinations}");
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

/// Row 1.12 of the list of known vulnerabilities: nothing secret is the same everywhere, and what every user of the machine
/// can read is not secret.
#[tokio::test]
async fn row_1_12_cve_2019_5885_secrets_are_random_and_for_the_server_alone() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let read = |folder: &Path, name: &str| std::fs::read_to_string(folder.join("data").join(name)).unwrap();
    for folder in [&folder, &other] {
        let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
        running.stop().await.unwrap();
    }
    for name in ["signing.key", "registration.secret"] {
        assert_ne!(read(folder.path(), name), read(other.path(), name), "{name}");
        let file = folder.path().join("data").join(name);
        let set = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (mode, shown) in [(0o604, "0604"), (0o602, "0602"), (0o644, "0644")] {
            set(mode);
            let error = Running::start(config(folder.path(), Engine::Memory)).await.err().unwrap();
            let told = error.to_string();
            let mends = format!("`chmod 600 {}`", file.display());
            assert!(told.contains(shown) && told.contains(&mends), "{told}");
        }
        // A group may be meant: that of who makes the backups.
        set(0o640);
        let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
        running.stop().await.unwrap();
        set(0o600);
    }
    // Public halves are no secret.
    let old = folder.path().join("data/signing.key.old");
    std::fs::write(&old, "ed25519 1 Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw 1\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    Running::start(config(folder.path(), Engine::Memory)).await.unwrap().stop().await.unwrap();
}

/// Row 1.5 of the list of known vulnerabilities: what proves nothing to this server is not what it signs with.
#[tokio::test]
async fn row_1_5_cve_2026_24044_a_server_does_not_sign_with_a_key_that_others_know() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let public = running.app().signing_key.public_key().encode();
    running.stop().await.unwrap();
    for ignored in [public.clone(), format!("{public}=")] {
        let mut config = config(folder.path(), Engine::Memory);
        config.federation.ignored_keys = vec![ignored];
        let error = Running::start(config).await.err().unwrap();
        assert!(matches!(error, StartError::KnownKey), "{error}");
    }
    Running::start(config(folder.path(), Engine::Memory)).await.unwrap().stop().await.unwrap();
}

/// A key and a certificate for `localhost`, for this test alone.
const TLS_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgXRC9E+d69va6Bwln
zSwL6+/6CGiW882L+smhGLeOvx+hRANCAARN6zQHYcxYeAZFpThnO7XU2EQOlaJ/
5cP/tshUpHsIUDowYlAvT2r8JM4XCeTG9h9Bk1xJFJBGVtbnDG7O5iIl
-----END PRIVATE KEY-----
";
const TLS_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBkjCCATigAwIBAgIUe7Njide6atkEntiyqgqxl6zHTNIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDEzMDg0OFoYDzIxMjYxMDMx
MTMwODQ4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARN6zQHYcxYeAZFpThnO7XU2EQOlaJ/5cP/tshUpHsIUDowYlAvT2r8
JM4XCeTG9h9Bk1xJFJBGVtbnDG7O5iIlo2YwZDAdBgNVHQ4EFgQUhB/OkdawHVxR
wlXAysGLzOvN5lIwHwYDVR0jBBgwFoAUhB/OkdawHVxRwlXAysGLzOvN5lIwFAYD
VR0RBA0wC4IJbG9jYWxob3N0MAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0EAwIDSAAw
RQIhANh2Fvh4DLfSWsvFefygQgevFg1b+/oUk1IZ1EF7lV1iAiBh3E1fToRHNj9a
nYpQ4Ghl6bZ8T3ObTYdhZz/XHfPZ6g==
-----END CERTIFICATE-----
";

#[tokio::test]
async fn serves_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, TLS_CERTIFICATE).unwrap();
    std::fs::write(&key, TLS_KEY).unwrap();
    let mut config = config(folder.path(), Engine::Memory);
    config.listen[0].tls = Some((certificate, key.clone()));
    let running = Running::start(config.clone()).await.unwrap();
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(TLS_CERTIFICATE.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    assert!(exchange(stream, "GET /health").await.starts_with("HTTP/1.1 200"));
    running.stop().await.unwrap();

    std::fs::write(&key, "no key").unwrap();
    let error = Running::start(config).await.err().unwrap();
    assert!(error.to_string().contains("key.pem"), "{error}");
}

/// Row 7.13 of the list of known vulnerabilities (CVE-2020-10108, CVE-2024-41671: a proxy and a server disagree about
/// where a request ends): what could be read in two ways is refused, and what follows it is not answered.
#[tokio::test]
async fn row_7_13_requests_that_could_be_read_in_two_ways_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(folder.path(), Engine::Memory)).await.unwrap();
    let Address::Tcp(address) = running.addresses()[0] else { panic!("the first listener is TCP") };
    let smuggled = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for head in [
        "content-length: 0\r\ncontent-length: 5",
        "content-length: 0, 5",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 99999999999999999999999",
        "content-length : 0",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding : chunked",
        "x: y\r\n continued: z\r\n content-length: 5",
        "x: a\0b",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("POST /_matrix/client/v3/login HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{smuggled}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("HTTP/1.1 200"), "{head:?}: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
    }
    running.stop().await.unwrap();
}
