//! Whole servers that talk to each other over TLS on the loopback, with an authority and a DNS of their own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ruma::{OwnedServerName, ServerName, api::federation::discovery::get_server_version::v1 as version};
use serde_json::{Value, value::RawValue};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Address, Config, Engine, Federation, Listen, Storage},
    delivery::{ByPeers, Transaction, Transport},
    peer::{Bounds, Dns, DnsError, Net, NetError, PeerError, Service, XMatrix},
    server::{Running, real_ports, tls},
    store::BoxFuture,
};

/// Every known name is this machine; where its server listens is told by SRV records.
#[derive(Default)]
pub(crate) struct Names(Mutex<BTreeMap<String, u16>>);

impl Names {
    /// From now on `name` is known, and its server listens on `port`.
    pub(crate) fn listen(&self, name: &str, port: u16) {
        self.0.lock().insert(String::from(name), port);
    }
}

impl Dns for Names {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        let known = self.0.lock().contains_key(name);
        Box::pin(async move { Ok(if known { vec![Ipv4Addr::LOCALHOST.into()] } else { Vec::new() }) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
        let host = name.strip_prefix("_matrix-fed._tcp.").unwrap_or_default();
        let port = self.0.lock().get(host).copied();
        let service = |port| Service { priority: 1, weight: 1, port, target: String::from(host) };
        let found = port.map(service).into_iter().collect();
        Box::pin(async move { Ok(found) })
    }
}

/// Several servers, their DNS and their certificate authority.
pub(crate) struct Town {
    folder: TempDir,
    pub(crate) names: Arc<Names>,
    issuer: Issuer<'static, KeyPair>,
}

impl Town {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { folder, names: Arc::default(), issuer: Issuer::new(params, key) }
    }

    /// The settings of the server `name`, with a certificate for `certified`.
    pub(crate) fn config(&self, name: &str, certified: &str) -> Config {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![String::from(certified)]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str, text: String| {
            let path = self.folder.path().join(format!("{name}.{end}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let tls: (PathBuf, PathBuf) = (file("pem", certificate.pem()), file("key", key.serialize_pem()));
        Config {
            server_name: OwnedServerName::try_from(name).unwrap(),
            data_dir: self.folder.path().join(name),
            listen: vec![Listen { address: Address::Tcp(([127, 0, 0, 1], 0).into()), tls: Some(tls) }],
            store: Storage { engine: Engine::Memory, ..Storage::default() },
            federation: Federation {
                allow_ranges: vec!["127.0.0.0/8".parse().unwrap()],
                roots: vec![self.folder.path().join("ca.pem")],
                trusted_key_servers: Vec::new(),
                ..Federation::default()
            },
            ..Config::default()
        }
    }

    /// Speaks TLS in the name of `name`.
    pub(crate) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let (chain, key) = self.config(name, name).listen[0].tls.clone().unwrap();
        tls::acceptor(tls::Certificate::load(&chain, &key).unwrap()).unwrap()
    }

    pub(crate) async fn start(&self, config: Config) -> Running {
        let name = config.server_name.to_string();
        let running = Box::pin(Running::start_among(config, real_ports(), self.names.clone())).await.unwrap();
        let Address::Tcp(address) = running.addresses()[0] else { panic!("it listens on TCP") };
        self.names.0.lock().insert(name, address.port());
        running
    }
}

fn name(text: &str) -> &ServerName {
    text.try_into().unwrap()
}

/// Has `from` ask `to` to say what has arrived.
async fn echo(from: &Running, to: &str) -> (StatusCode, Value) {
    let path = "/_matrix/federation/unstable/org.lockstep.echo/a%2Fb%20c";
    let mut request = Request::builder().uri(path).body(Bytes::new()).unwrap();
    let proof = XMatrix::sign(&request, &from.app().signing_key, name(to)).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, proof.header());
    let answer = from.net.exchange(name(to), request, Bounds::default()).await.unwrap();
    (answer.status(), serde_json::from_slice(answer.body()).unwrap())
}

#[tokio::test]
async fn two_servers_find_and_believe_each_other() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let b = town.start(town.config("b.test", "b.test")).await;
    for (from, to) in [(&a, "b.test"), (&b, "a.test"), (&a, "b.test"), (&a, "a.test")] {
        let (status, body) = echo(from, to).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["origin"], from.app().server_name.as_str());
        assert_eq!(body["text"], "a/b c");
    }
    let told = a.app().peers.call(name("b.test"), version::Request::new(), Bounds::default()).await.unwrap();
    assert_eq!(told.server.unwrap().name.as_deref(), Some("Lockstep"));

    // Row 3.20 of the list of known vulnerabilities: answers have a bound, and so has their time.
    let ask = |bounds| a.app().peers.call(name("b.test"), version::Request::new(), bounds);
    let small = ask(Bounds::new(Duration::from_secs(30), 10)).await;
    assert!(matches!(small, Err(PeerError::TooLarge)), "{small:?}");
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    town.names.0.lock().insert(String::from("silent.test"), silent.local_addr().unwrap().port());
    let bounds = Bounds::new(Duration::from_millis(20), 1_000);
    let late = a.app().peers.call(name("silent.test"), version::Request::new(), bounds).await;
    assert!(matches!(late, Err(PeerError::Timeout)), "{late:?}");
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_has_no_certificate_for_its_name_is_not_talked_to() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let b = town.start(town.config("b.test", "c.test")).await;
    let refused = a.app().peers.call(name("b.test"), version::Request::new(), Bounds::default()).await;
    let Err(PeerError::Unreachable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("certificate"), "{why}");

    let stranger = Town::new();
    let c = stranger.start(stranger.config("c.test", "c.test")).await;
    let Address::Tcp(address) = c.addresses()[0] else { panic!("it listens on TCP") };
    town.names.0.lock().insert(String::from("c.test"), address.port());
    let refused = a.app().peers.call(name("c.test"), version::Request::new(), Bounds::default()).await;
    assert!(matches!(refused, Err(PeerError::Unreachable(_))), "{refused:?}");
    for running in [a, b, c] {
        running.stop().await.unwrap();
    }
}

/// Row 4.5 of the list of known vulnerabilities, with real sockets: without leave, this machine is not reached, by no
/// name and no delegation.
#[tokio::test]
async fn a_name_does_not_lead_into_this_machine() {
    let town = Town::new();
    let mut config = town.config("a.test", "a.test");
    config.federation.allow_ranges.clear();
    let a = town.start(config).await;
    for target in ["a.test", "127.0.0.1", "[::1]:8448", "[::ffff:127.0.0.1]"] {
        let refused = a.app().peers.call(name(target), version::Request::new(), Bounds::default()).await;
        assert!(matches!(refused, Err(PeerError::Forbidden(_))), "{target}: {refused:?}");
    }
    let lost = a.app().peers.call(name("nowhere.test"), version::Request::new(), Bounds::default()).await;
    assert!(matches!(lost, Err(PeerError::Unreachable(_))), "{lost:?}");
    let gone = a.net.locate(name("nowhere.test")).await;
    assert!(matches!(gone, Err(NetError::Unreachable(_))));
    a.stop().await.unwrap();
}

/// With whom the operator wants nothing to do, there is nothing either way.
#[tokio::test]
async fn denied_servers_are_neither_heard_nor_asked() {
    let town = Town::new();
    let mut config = town.config("a.test", "a.test");
    config.federation.denied_servers = vec![String::from("bad.test"), String::from("*.bad.test")];
    let a = town.start(config).await;
    for (other, is_denied) in [("bad.test", true), ("x.bad.test", true), ("good.test", false)] {
        let b = town.start(town.config(other, other)).await;
        assert_eq!(echo(&b, "a.test").await.0 == StatusCode::FORBIDDEN, is_denied, "{other}");
        let told = a.app().peers.call(name(other), version::Request::new(), Bounds::default()).await;
        assert_eq!(matches!(told, Err(PeerError::Forbidden(_))), is_denied, "{other}: {told:?}");
        assert_eq!(told.is_ok(), !is_denied, "{other}");
        // What its users say comes by others too, and is to be checked.
        let keys = a.app().peers.caller_key(name(other), b.app().peers.signing_key().key_id()).await;
        assert!(keys.is_some_and(|keys| keys.contains_key(other)), "{other}");
        b.stop().await.unwrap();
    }
    a.stop().await.unwrap();
}

/// A page that a proxy shows in a server's place is no word of the server: what was put there has not arrived.
#[tokio::test]
async fn a_page_of_a_proxy_is_no_receipt() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let tls = town.acceptor("shut.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    town.names.0.lock().insert(String::from("shut.test"), listener.local_addr().unwrap().port());
    let transport =
        ByPeers { peers: a.app().peers.clone(), ports: real_ports(), timeout: Duration::from_secs(30) };
    for (page, arrives) in
        [("<html>Back soon</html>", false), ("", false), (r#"{"pdus":{}}"#, true), ("{}", true)]
    {
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}", page.len());
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(stream).await.unwrap();
            let mut asked = Vec::new();
            // The transaction, which ends the request.
            while !asked.ends_with(b"}") && stream.read_buf(&mut asked).await.unwrap() > 0 {}
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let edus = vec![RawValue::from_string(r#"{"edu_type":"m.test","content":{}}"#.into()).unwrap()];
        let transaction = Transaction { id: "t".into(), made_ms: 1, pdus: Vec::new(), edus };
        let (put, ()) = tokio::join!(transport.put(name("shut.test"), &transaction), serve);
        assert_eq!(put.is_ok(), arrives, "{page}: {put:?}");
    }
    a.stop().await.unwrap();
}

/// Row 4.7 of the list of known vulnerabilities: an answer without end, of a length that nobody has announced.
#[tokio::test]
async fn row_4_7_an_answer_without_end_is_cut_off() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let tls = town.acceptor("endless.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    town.names.0.lock().insert(String::from("endless.test"), listener.local_addr().unwrap().port());
    let flood = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = [b"2000\r\n".as_slice(), &[b' '; 0x2000], b"\r\n"].concat();
        let mut sent = 0_usize;
        while stream.write_all(&chunk).await.is_ok() {
            sent += 0x2000;
        }
        sent
    };
    let bounds = Bounds::new(Duration::from_secs(30), 1 << 20);
    let call = a.app().peers.call(name("endless.test"), version::Request::new(), bounds);
    let (answer, sent) = tokio::join!(call, flood);
    assert!(matches!(answer, Err(PeerError::TooLarge)), "{answer:?}");
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    a.stop().await.unwrap();
}
