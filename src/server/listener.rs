//! Sockets that accept connections.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{self, Certificate, TlsError};
use crate::config::{Address, Listen};

/// Why the server cannot listen somewhere.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(Address, #[source] io::Error),
    /// The certificate or the key cannot be used.
    #[error("cannot serve TLS on {0}: {1}")]
    Tls(Address, #[source] TlsError),
}

/// A listener that is bound.
pub(super) struct Listener {
    socket: Socket,
    pub(super) address: Address,
    pub(super) tls: Option<TlsAcceptor>,
    /// What `tls` serves with.
    pub(super) certificate: Option<Arc<Certificate>>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection before TLS.
pub(super) enum Stream {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Binds `listen`.
    pub(super) async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let refuse = |error| ListenError::Bind(listen.address.clone(), error);
        let refuse_tls = |error| ListenError::Tls(listen.address.clone(), error);
        let certificate = listen.tls.as_ref().map(|(chain, key)| Certificate::load(chain, key));
        let certificate = certificate.transpose().map_err(refuse_tls)?;
        let tls = certificate.clone().map(tls::acceptor).transpose().map_err(refuse_tls)?;
        let (socket, address) = match &listen.address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(refuse)?;
                let bound = listener.local_addr().map_err(refuse)?;
                (Socket::Tcp(listener), Address::Tcp(bound))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path).await.map_err(refuse)?;
                (Socket::Unix(listener), listen.address.clone())
            }
        };
        Ok(Self { socket, address, tls, certificate })
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, address.ip()))
            }
            Socket::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (Socket::Unix(_), Address::Unix(path)) = (&self.socket, &self.address) {
            // Nothing depends on it: a socket that nobody listens on is replaced at the next start.
            drop(fs::remove_file(path));
        }
    }
}

/// Binds a Unix socket, and replaces one that a killed server left behind.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // The owner's group may connect: that is how a reverse proxy is let in.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
