//! The data folder: the signing key and the secrets, made at the first start.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ruma::{
    ServerName,
    serde::{Base64, base64::Standard},
};

use crate::{
    config::Config,
    keys::{KeyError, SigningKey},
    peer::OldKey,
    types::{Ports, Rng, random_string},
};

/// Random characters in a secret of ours; 62^43 is beyond 2^256.
const SECRET_CHARACTERS: usize = 43;

/// The file with the secret key.
const SIGNING_KEY: &str = "signing.key";
/// The file with the public halves of earlier keys: `ed25519 VERSION BASE64 EXPIRED_TS`, one on each line.
const OLD_KEYS: &str = "signing.key.old";

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder or a file in it cannot be read or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// The signing key is not one.
    #[error("{}: {}", .0.display(), .1)]
    Key(PathBuf, #[source] KeyError),
    /// A file with a secret is empty.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// A file with a secret is open to every user of this machine; with its mode.
    #[error(
        "{path} holds a secret and is open to every user of this machine (its mode is {mode:04o}): `chmod 600 {path}` mends it",
        path = .0.display(), mode = .1
    )]
    Exposed(PathBuf, u32),
}

/// What lies in the data folder beside the store.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    registration: PathBuf,
}

impl Folder {
    /// The folder of `config`, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(config: &Config) -> Result<Self, FolderError> {
        let folder = Self::of(config);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder.path);
        made.map_err(|error| FolderError::Io(folder.path.clone(), error))?;
        Ok(folder)
    }

    /// The folder of `config`, whether it is there or not.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let path = config.data_dir.clone();
        let registration = config.registration.shared_secret_file.clone();
        let registration = registration.unwrap_or_else(|| path.join("registration.secret"));
        Self { path, registration }
    }

    /// Where the embedded store lies.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The signing key; made if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds no key.
    pub fn signing_key(&self, server: &ServerName, rng: &dyn Rng) -> Result<SigningKey, FolderError> {
        let path = self.path.join(SIGNING_KEY);
        let text = match read(&path)? {
            Some(text) => text,
            None => {
                let mut seed = [0; 32];
                rng.fill(&mut seed);
                // The version must differ from that of any earlier key of this server.
                let version = random_string(rng, 6);
                let key = SigningKey::from_seed(server.to_owned(), &version, seed);
                let text = key.map_err(|error| FolderError::Key(path.clone(), error))?.to_text();
                write(&path, &text)?;
                text
            }
        };
        SigningKey::from_text(server.to_owned(), &text).map_err(|error| FolderError::Key(path, error))
    }

    /// The keys with which this server has signed before.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense.
    pub fn old_keys(&self) -> Result<Vec<OldKey>, FolderError> {
        let path = self.path.join(OLD_KEYS);
        let Some(text) = read_public(&path)? else { return Ok(Vec::new()) };
        let keys: Option<Vec<OldKey>> = text.lines().map(old_key).collect();
        keys.ok_or(FolderError::Key(path, KeyError::Text))
    }

    /// Puts a new signing key in the place of the old one, and takes note of the old one's public half, so that
    /// what was signed with it stays valid. The server must not run.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn rotate_key(
        &self,
        server: &ServerName,
        ports: &Ports,
    ) -> Result<(OldKey, SigningKey), FolderError> {
        let old = self.signing_key(server, ports.rng.as_ref())?;
        let old =
            OldKey { id: old.key_id().to_string(), key: old.public_key(), expired_ts: ports.clock.now_ms() };
        let mut known = self.old_keys()?;
        known.retain(|known| known.id != old.id);
        known.push(old.clone());
        let lines = known.iter().map(|old| {
            let version = old.id.trim_start_matches("ed25519:");
            format!("ed25519 {version} {} {}", old.key.encode(), old.expired_ts)
        });
        let path = self.path.join(OLD_KEYS);
        write(&path, &lines.collect::<Vec<_>>().join("\n"))?;
        fs::remove_file(self.path.join(SIGNING_KEY)).map_err(|error| FolderError::Io(path, error))?;
        Ok((old, self.signing_key(server, ports.rng.as_ref())?))
    }

    /// The signing key, if the server has made one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no key.
    pub fn known_signing_key(&self, server: &ServerName) -> Result<Option<SigningKey>, FolderError> {
        let path = self.path.join(SIGNING_KEY);
        let Some(text) = read(&path)? else { return Ok(None) };
        let key = SigningKey::from_text(server.to_owned(), &text);
        key.map(Some).map_err(|error| FolderError::Key(path, error))
    }

    /// The secret of `/_synapse/admin/v1/register`; made if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is empty.
    pub fn registration_secret(&self, rng: &dyn Rng) -> Result<String, FolderError> {
        if let Some(secret) = read(&self.registration)? {
            return Ok(secret);
        }
        let secret = random_string(rng, SECRET_CHARACTERS);
        write(&self.registration, &secret)?;
        Ok(secret)
    }

    /// The secret of `/_synapse/admin/v1/register`, if the server has made one.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub fn known_registration_secret(&self) -> Result<Option<String>, FolderError> {
        read(&self.registration)
    }
}

fn old_key(line: &str) -> Option<OldKey> {
    let mut words = line.split_ascii_whitespace();
    let (Some("ed25519"), Some(version), Some(key), Some(expired), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let key = Base64::<Standard>::parse(key).ok()?;
    let id = format!("ed25519:{version}");
    Some(OldKey { id, key: Base64::new(key.into_inner()), expired_ts: expired.parse().ok()? })
}

/// Reads a secret, which is nobody else's business.
fn read(path: &Path) -> Result<Option<String>, FolderError> {
    if let Ok(metadata) = fs::metadata(path) {
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(FolderError::Exposed(path.to_owned(), mode));
        }
        if mode & 0o070 != 0 {
            let file = path.display();
            tracing::warn!(%file, "the group of a file with a secret can read it: {file}");
        }
    }
    read_public(path)
}

fn read_public(path: &Path) -> Result<Option<String>, FolderError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FolderError::Io(path.to_owned(), error)),
    };
    match text.trim() {
        "" => Err(FolderError::Empty(path.to_owned())),
        text => Ok(Some(String::from(text))),
    }
}

/// Writes a secret whole or not at all, durably, for the owner's eyes only.
fn write(path: &Path, text: &str) -> Result<(), FolderError> {
    let half = path.with_extension("new");
    let written = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| FolderError::Io(path.to_owned(), error))
}
