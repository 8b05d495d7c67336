//! TLS for listeners that have a certificate.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// Why a listener cannot serve TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// A file is not PEM, or lacks what is looked for.
    #[error("{}: {}", .0.display(), .1)]
    Pem(PathBuf, #[source] pem::Error),
    /// Certificate and key do not fit.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A certificate and its key from files, which may be renewed while the server runs.
#[derive(Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files were like when they were read.
    read: Mutex<[Stamp; 2]>,
}

/// Tells one state of a file from another.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Certificate {
    /// Reads the chain and the key.
    pub(super) fn load(chain: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let stamps = [stamp(chain), stamp(key)];
        let current = RwLock::new(Arc::new(read(chain, key)?));
        Ok(Arc::new(Self { chain: chain.to_owned(), key: key.to_owned(), current, read: Mutex::new(stamps) }))
    }

    /// Reads the files again if they have changed; whether they had. Connections that come from then on
    /// are served with what they hold.
    ///
    /// # Errors
    /// When they cannot be used; what was read before stays in use, and the next call tries again.
    pub(super) fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = [stamp(&self.chain), stamp(&self.key)];
        if *self.read.lock() == stamps {
            return Ok(false);
        }
        let renewed = Arc::new(read(&self.chain, &self.key)?);
        *self.current.write() = renewed;
        *self.read.lock() = stamps;
        Ok(true)
    }

    /// Where the chain lies.
    pub(super) fn path(&self) -> &Path {
        &self.chain
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

/// Serves with `certificate`.
pub(super) fn acceptor(certificate: Arc<Certificate>) -> Result<TlsAcceptor, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::Io(path.to_owned(), error));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(chain)?).collect();
    let found = found.map_err(|error| TlsError::Pem(chain.to_owned(), error))?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
    let secret = secret.map_err(|error| TlsError::Pem(key.to_owned(), error))?;
    Ok(CertifiedKey::from_der(found, secret, &aws_lc_rs::default_provider())?)
}

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::Certificate;

    #[test]
    fn renewed_files_are_used_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let made = || rcgen::generate_simple_self_signed(vec![String::from("localhost")]).unwrap();
        let (old, new) = (made(), made());
        std::fs::write(&chain, old.cert.pem()).unwrap();
        std::fs::write(&key, old.signing_key.serialize_pem()).unwrap();
        let certificate = Certificate::load(&chain, &key).unwrap();
        let shown = || certificate.current.read().cert[0].to_vec();
        assert_eq!(shown(), old.cert.der().to_vec());
        assert!(!certificate.refresh().unwrap(), "nothing has changed");
        // As long as only one of the two files is there, they do not fit.
        std::fs::remove_file(&chain).unwrap();
        assert!(certificate.refresh().is_err());
        std::fs::write(&chain, new.cert.pem()).unwrap();
        assert!(certificate.refresh().is_err());
        assert_eq!(shown(), old.cert.der().to_vec());
        std::fs::remove_file(&key).unwrap();
        std::fs::write(&key, new.signing_key.serialize_pem()).unwrap();
        assert!(certificate.refresh().unwrap());
        assert_eq!(shown(), new.cert.der().to_vec());
        assert!(!certificate.refresh().unwrap());
    }
}
