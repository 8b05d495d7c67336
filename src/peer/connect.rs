//! Makes connections: looks up, judges the addresses, connects to one of them, checks the certificate.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use ruma::ServerName;
use rustls::{ClientConfig, pki_types};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tower::Service;

use super::{
    NetError,
    discovery::{Locator, literal},
};
use crate::{
    limits::{PEER_CONNECT_SECONDS_MAX, PEER_NEXT_ADDRESS_AFTER},
    store::BoxFuture,
};

/// What an address of the web stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// An authority as discovery has found it: SRV records count, and the port is 8448.
    Peer,
    /// Just a web server: the port is 443, or 80 without TLS.
    Web,
}

/// Connects for hyper.
#[derive(Clone)]
pub(super) struct Connector {
    locator: Arc<Locator>,
    tls: TlsConnector,
    mode: Mode,
}

impl Connector {
    pub(super) fn new(locator: Arc<Locator>, tls: &Arc<ClientConfig>, mode: Mode) -> Self {
        Self { locator, tls: TlsConnector::from(tls.clone()), mode }
    }

    async fn connect(self, uri: Uri) -> Result<Wire, NetError> {
        let no_name = || NetError::Unreachable(format!("`{uri}` names no server"));
        let authority = uri.authority().ok_or_else(no_name)?;
        let is_plain = self.mode == Mode::Web && uri.scheme() == Some(&Scheme::HTTP);
        let place = match self.mode {
            Mode::Peer => {
                let server = <&ServerName>::try_from(authority.as_str()).map_err(|_| no_name())?;
                self.locator.locate(server).await?
            }
            Mode::Web => {
                let usual = if is_plain { 80 } else { 443 };
                self.locator.locate_host(authority.host(), authority.port_u16().unwrap_or(usual)).await?
            }
        };
        let stream = match is_plain {
            true => Either::Right(call(&place.addresses).await?),
            false => Either::Left(dial(&self.tls, authority.host(), &place.addresses).await?),
        };
        Ok(Wire(TokioIo::new(stream)))
    }
}

/// A connection without TLS to the first of `addresses` that answers.
async fn call(addresses: &[SocketAddr]) -> Result<TcpStream, NetError> {
    let mut failure = NetError::Unreachable(String::from("it has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Err(error) => failure = NetError::Unreachable(format!("connecting to {address}: {error}")),
        }
    }
    Err(failure)
}

/// A connection to the first of `addresses` that answers with a certificate for `host`. The next one is tried
/// beside those that have not answered yet.
///
/// RFC 8305
pub(super) async fn dial(
    tls: &TlsConnector,
    host: &str,
    addresses: &[SocketAddr],
) -> Result<TlsStream<TcpStream>, NetError> {
    let name = match literal(host) {
        Some(ip) => pki_types::ServerName::from(ip),
        None => pki_types::ServerName::try_from(String::from(host))
            .map_err(|_| NetError::Unreachable(format!("`{host}` is no name for a certificate")))?,
    };
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = NetError::Unreachable(String::from("it has no address"));
    loop {
        match waiting.next() {
            Some(address) => attempts.push(attempt(tls, name.clone(), *address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let next = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(PEER_NEXT_ADDRESS_AFTER).await,
            }
        };
        tokio::select! {
            Some(done) = attempts.next() => match done {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = next => {}
        }
    }
}

async fn attempt(
    tls: &TlsConnector,
    name: pki_types::ServerName<'static>,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, NetError> {
    let stream = TcpStream::connect(address).await;
    let stream =
        stream.map_err(|error| NetError::Unreachable(format!("connecting to {address}: {error}")))?;
    // Answers come a little later without it, nothing else.
    drop(stream.set_nodelay(true));
    let stream = tls.connect(name, stream).await;
    stream.map_err(|error| NetError::Unreachable(format!("TLS with {address}: {error}")))
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = NetError;
    type Future = BoxFuture<'static, Result<Wire, NetError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            let done = tokio::time::timeout(PEER_CONNECT_SECONDS_MAX, connecting).await;
            done.unwrap_or(Err(NetError::Timeout))
        })
    }
}

/// A connection as hyper wants it.
pub(super) struct Wire(TokioIo<Either<TlsStream<TcpStream>, TcpStream>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
