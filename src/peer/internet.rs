//! The real network: HTTP over TLS to wherever discovery leads.

use std::{
    error::Error as StdError,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioTimer};
use ruma::ServerName;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Bounds, Net, NetError, Pieces, Purpose,
    connect::{Connector, Mode, dial},
    discovery::{Discovery, Locator, Place},
    dns::{Dns, DnsError, SystemDns},
    gate::Gate,
    patient::Patient,
    slots::Slots,
    well_known::Web,
};
use crate::{
    limits::{
        PEER_CONNECT_SECONDS_MAX, PEER_EXCHANGES_EACH_MAX, PEER_EXCHANGES_MAX, PEER_HEAD_BYTES_MAX,
        PEER_IDLE_EACH_MAX, PEER_IDLE_SECONDS, PUSH_IDLE_EACH_MAX, WELL_KNOWN_BYTES_MAX,
        WELL_KNOWN_SECONDS_MAX,
    },
    store::BoxFuture,
    types::Ports,
};

/// What this server calls itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Lockstep/", env!("CARGO_PKG_VERSION")));

/// Why the network cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InternetError {
    /// A file with certificates cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Roots(PathBuf, String),
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The DNS cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsError),
}

/// What can be set about the network.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Which addresses may be connected to.
    pub gate: Gate,
    /// PEM files with certificates that are trusted beside those of the system.
    pub roots: Vec<PathBuf>,
    /// Which addresses push gateways may have.
    pub push: Gate,
    /// Which addresses pages of the web may have that users name.
    pub pages: Gate,
    /// Which addresses those may have that judge solutions of puzzles.
    pub captcha: Gate,
    /// Which addresses identity servers may have.
    pub identity: Gate,
}

type HttpClient = Client<Connector, Full<Bytes>>;

/// The real network.
pub struct Internet {
    locator: Arc<Locator>,
    discovery: Discovery,
    client: HttpClient,
    /// For push gateways, for whoever the operator has named, for puzzles, for identity servers, and for pages.
    web: [HttpClient; 5],
    tls: Arc<ClientConfig>,
    all: Arc<Semaphore>,
    each: Slots,
    closing: CancellationToken,
}

impl Internet {
    /// Opens the network with the DNS of the system. Connections live on `tasks`.
    ///
    /// # Errors
    /// See [`InternetError`].
    pub fn open(reach: Reach, ports: Ports, tasks: TaskTracker) -> Result<Self, InternetError> {
        Self::with_dns(Arc::new(SystemDns::open()?), reach, ports, tasks)
    }

    /// As [`Self::open`], with another DNS.
    ///
    /// # Errors
    /// See [`InternetError`].
    pub fn with_dns(
        dns: Arc<dyn Dns>,
        reach: Reach,
        ports: Ports,
        tasks: TaskTracker,
    ) -> Result<Self, InternetError> {
        let tls = Arc::new(client_config(&reach.roots)?);
        let dns: Arc<dyn Dns> = Arc::new(Patient::new(dns, &ports.clock));
        let locate = |gate| Arc::new(Locator::new(dns.clone(), gate, ports.rng.clone()));
        let locator = locate(reach.gate);
        let web_locators = [reach.push, Gate::open(), reach.captcha, reach.identity, reach.pages].map(locate);
        let closing = CancellationToken::new();
        let executor = Tracked { tasks, closing: closing.clone() };
        let client = |mode, locator: &Arc<Locator>, idle_max| {
            Client::builder(executor.clone())
                .pool_idle_timeout(PEER_IDLE_SECONDS)
                .pool_max_idle_per_host(idle_max)
                .pool_timer(TokioTimer::new())
                .http1_max_buf_size(PEER_HEAD_BYTES_MAX)
                .build(Connector::new(locator.clone(), &tls, mode))
        };
        let web = Arc::new(Browser { client: client(Mode::Web, &locator, PEER_IDLE_EACH_MAX) });
        let discovery = Discovery::new(web, ports.clock);
        let all = Arc::new(Semaphore::new(PEER_EXCHANGES_MAX));
        let each = Slots::new(PEER_EXCHANGES_EACH_MAX);
        let [push, others @ ..] = &web_locators;
        let others = others.each_ref().map(|locator| client(Mode::Web, locator, PEER_IDLE_EACH_MAX));
        let [appservice, captcha, identity, pages] = others;
        let web = [client(Mode::Web, push, PUSH_IDLE_EACH_MAX), appservice, captcha, identity, pages];
        let client = client(Mode::Peer, &locator, PEER_IDLE_EACH_MAX);
        Ok(Self { client, web, locator, discovery, tls, all, each, closing })
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// How servers are found.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The addresses of who stands for a server.
    ///
    /// # Errors
    /// When there are none that may be connected to.
    pub async fn locate(&self, authority: &ServerName) -> Result<Place, NetError> {
        self.locator.locate(authority).await
    }

    /// Connects to each address of `authority` on its own; with which version of TLS, or why not.
    pub async fn shake_hands(&self, authority: &ServerName) -> Vec<(SocketAddr, Result<String, NetError>)> {
        let Ok(place) = self.locate(authority).await else { return Vec::new() };
        let tls = TlsConnector::from(self.tls.clone());
        let mut found = Vec::new();
        for address in place.addresses {
            let shaken = within(PEER_CONNECT_SECONDS_MAX, dial(&tls, authority.host(), &[address])).await;
            let version = |stream: TlsStream<TcpStream>| {
                stream
                    .get_ref()
                    .1
                    .protocol_version()
                    .map(|version| format!("{version:?}"))
                    .unwrap_or_default()
            };
            found.push((address, shaken.map(version)));
        }
        found
    }

    async fn send(
        &self,
        server: &ServerName,
        request: Request<Bytes>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, NetError> {
        // First a place at the server: who waits for it takes none of those for all. Nobody closes the semaphore.
        let _slot = self.each.enter(server).await;
        let _share = self.all.acquire().await.ok();
        receive(self.head(server, request).await?, bytes_max).await
    }

    /// The head of the answer to `request`; the body is yet to come.
    async fn head(
        &self,
        server: &ServerName,
        mut request: Request<Bytes>,
    ) -> Result<Response<Incoming>, NetError> {
        let (authority, _) = self.discovery.authority(server).await;
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let uri: Result<Uri, _> = format!("https://{authority}{target}").parse();
        *request.uri_mut() =
            uri.map_err(|_| NetError::Unreachable(String::from("its name is no address")))?;
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
        let answer = match ask(&self.client, &request).await {
            // A connection that was kept may be closed by the other side at the very moment we use it.
            Err(Lost::Closed) if matches!(*request.method(), Method::GET | Method::PUT) => {
                ask(&self.client, &request).await
            }
            answer => answer,
        };
        answer.map_err(Lost::told)
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.close();
    }
}

impl Net for Internet {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        Box::pin(within(bounds.timeout, self.send(server, request, bounds.bytes_max)))
    }

    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        let [push, appservice, captcha, identity, pages] = &self.web;
        let client = match purpose {
            Purpose::Push => push,
            Purpose::Appservice | Purpose::Provider | Purpose::Sfu => appservice,
            Purpose::Captcha => captcha,
            Purpose::Identity => identity,
            Purpose::Page => pages,
        };
        Box::pin(within(bounds.timeout, async move {
            // Nobody closes the semaphore.
            let _share = self.all.acquire().await.ok();
            let answer = match ask(client, &request).await {
                // As above. A notification that comes twice has the same event id.
                Err(Lost::Closed) if purpose == Purpose::Push => ask(client, &request).await,
                answer => answer,
            };
            receive(answer.map_err(Lost::told)?, bounds.bytes_max).await
        }))
    }

    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Response<Pieces>, NetError>> {
        Box::pin(within(timeout, async move {
            let _slot = self.each.enter(server).await;
            let share = self.all.clone().acquire_owned().await.ok();
            Ok(self.head(server, request).await?.map(|body| pieces(body, share)))
        }))
    }

    fn browse<'a>(
        &'a self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Response<Pieces>, NetError>> {
        let [.., pages] = &self.web;
        Box::pin(within(timeout, async move {
            let share = self.all.clone().acquire_owned().await.ok();
            Ok(ask(pages, &request).await.map_err(Lost::told)?.map(|body| pieces(body, share)))
        }))
    }
}

/// Fetches delegations.
struct Browser {
    client: HttpClient,
}

impl Web for Browser {
    fn get<'a>(&'a self, uri: &'a Uri) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        Box::pin(within(WELL_KNOWN_SECONDS_MAX, async move {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = uri.clone();
            receive(ask(&self.client, &request).await.map_err(Lost::told)?, WELL_KNOWN_BYTES_MAX).await
        }))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(NetError::Timeout))
}

/// Why there is no head of an answer.
enum Lost {
    Closed,
    Failed(NetError),
}

impl Lost {
    fn told(self) -> NetError {
        match self {
            Self::Closed => NetError::Unreachable(String::from("it closed the connection without an answer")),
            Self::Failed(error) => error,
        }
    }
}

async fn ask(client: &HttpClient, request: &Request<Bytes>) -> Result<Response<Incoming>, Lost> {
    let mut request = request.clone().map(Full::new);
    request.headers_mut().entry(header::USER_AGENT).or_insert(USER_AGENT);
    client.request(request).await.map_err(|error| {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        let mut text = error.to_string();
        while let Some(found) = cause {
            if let Some(known) = found.downcast_ref::<NetError>() {
                return Lost::Failed(known.clone());
            }
            if found.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
                return Lost::Closed;
            }
            text = found.to_string();
            cause = found.source();
        }
        Lost::Failed(NetError::Unreachable(text))
    })
}

/// The body piece by piece; the exchange is counted among all until it is read or dropped.
fn pieces(body: Incoming, share: Option<OwnedSemaphorePermit>) -> Pieces {
    let told = move |piece: Result<Bytes, hyper::Error>| {
        let _held = &share;
        piece.map_err(|error| NetError::Unreachable(format!("its answer broke off: {error}")))
    };
    body.into_data_stream().map(told).boxed()
}

async fn receive(answer: Response<Incoming>, bytes_max: usize) -> Result<Response<Bytes>, NetError> {
    let (parts, body) = answer.into_parts();
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > bytes_max as u64) {
        return Err(NetError::TooLarge);
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(Response::from_parts(parts, collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(NetError::TooLarge),
        Err(error) => Err(NetError::Unreachable(format!("its answer broke off: {error}"))),
    }
}

/// Runs hyper's tasks where they are counted, and ends them when the network is closed.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = work => {}
                () = closing.cancelled() => {}
            }
        });
    }
}

/// Trusts the roots of the system, or Mozilla's where the system has none, and those in `files`.
fn client_config(files: &[PathBuf]) -> Result<ClientConfig, InternetError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| InternetError::Roots(file.clone(), error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, InternetError> {
    let wrong = |why: String| InternetError::Roots(file.to_owned(), why);
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found.map_err(|error| wrong(error.to_string()))? {
        found if found.is_empty() => Err(wrong(String::from("there is no certificate in it"))),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_util::task::TaskTracker;

    use super::{Browser, Internet, NetError, Reach, WELL_KNOWN_BYTES_MAX, Web};
    use crate::types::{ManualClock, Ports, SeededRng};

    /// Row 4.7 of the list of known vulnerabilities (CVE-2021-21274): a delegation that never ends, or says that it is
    /// huge, is not read.
    #[tokio::test]
    async fn row_4_7_cve_2021_21274_a_huge_delegation_is_not_read() {
        let tasks = TaskTracker::new();
        let ports = Ports { clock: Arc::new(ManualClock::at(0)), rng: Arc::new(SeededRng::new(1)) };
        let net = Internet::open(Reach::default(), ports, tasks).unwrap();
        // The client of application services may look into this machine.
        let browser = Browser { client: net.web[1].clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fits = format!("content-length: {WELL_KNOWN_BYTES_MAX}\r\n\r\n");
        for (head, expected) in [
            (fits, None),
            (format!("content-length: {}\r\n\r\n", WELL_KNOWN_BYTES_MAX + 1), Some(0)),
            (String::from("connection: close\r\n\r\n"), Some(WELL_KNOWN_BYTES_MAX)),
        ] {
            let flood = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1_024]).await.unwrap();
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).await.unwrap();
                let (mut sent, most) = (0, if expected.is_none() { WELL_KNOWN_BYTES_MAX } else { 64 << 20 });
                while sent < most {
                    let chunk = vec![b' '; 4_096.min(most - sent)];
                    match stream.write_all(&chunk).await {
                        Ok(()) => sent += chunk.len(),
                        Err(_) => break,
                    }
                }
                sent
            };
            let uri = format!("http://{address}/.well-known/matrix/server").parse().unwrap();
            let (answer, sent) = tokio::join!(browser.get(&uri), flood);
            match expected {
                None => assert_eq!(answer.unwrap().body().len(), WELL_KNOWN_BYTES_MAX),
                Some(_) => {
                    assert!(matches!(answer, Err(NetError::TooLarge)), "{head}");
                    assert!(sent < 16 << 20, "{sent} bytes were taken");
                }
            }
        }
    }
}
