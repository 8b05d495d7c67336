//! The data folder: the signing key and the secrets, made at the first start.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ruma::ServerName;

use crate::{
    config::Config,
    keys::{KeyError, SigningKey},
    types::{Rng, random_string},
};

/// Random characters in a secret of ours; 62^43 is beyond 2^256.
const SECRET_CHARACTERS: usize = 43;

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
        let path = self.path.join("signing.key");
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

fn read(path: &Path) -> Result<Option<String>, FolderError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FolderError::Io(path.to_owned(), error)),
    };
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(file = %path.display(), "a secret can be read by other users of this machine");
    }
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
