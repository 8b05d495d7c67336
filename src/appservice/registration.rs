//! Registrations as the operator writes them.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#registration>

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use http::Uri;
use ruma::{ServerName, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Appservice, Namespaces, Origin, RegistrationError,
    namespace::{Entry, Namespace},
};
use crate::limits::ID_BYTES_MAX;

/// SHA-256 of an `as_token`, in hexadecimal: the token itself is not kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// That of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether `other` is of the same token; it takes as long where it is not.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// A registration as it is stored: the hash of the `as_token` stands for it. The `hs_token` is as it was, since this server
/// shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    as_token_sha256: TokenHash,
    #[serde(flatten)]
    registration: Registration,
}

impl Kept {
    /// The application service of this registration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(self, server: &ServerName) -> Result<Appservice, String> {
        self.registration.opened(self.as_token_sha256, server)
    }
}

impl From<Registration> for Kept {
    fn from(mut registration: Registration) -> Self {
        let as_token_sha256 = registration.take_token();
        Self { as_token_sha256, registration }
    }
}

/// A registration. What this server does not know of is passed over.
#[derive(Clone, Serialize, Deserialize)]
pub struct Registration {
    /// Names the application service.
    pub id: String,
    /// Where it is; without one it gets no transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// With which it comes to us; empty once it is [`Kept`] or opened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub as_token: String,
    /// With which we come to it.
    pub hs_token: String,
    /// The local part of the user that stands for it.
    pub sender_localpart: String,
    /// Whether limits hold for its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limited: Option<bool>,
    /// The networks that it connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
    /// Whether it wants typing, receipts and presence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_ephemeral: Option<bool>,
    /// The same by the name that it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_ephemeral: Option<bool>,
    /// The same by the name that it had at first.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "de.sorunome.msc2409.push_ephemeral")]
    pub msc2409: Option<bool>,
    /// Whether it wants to know of devices and keys and gets what is sent to devices, for encryption.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "org.matrix.msc3202")]
    pub msc3202: Option<bool>,
    /// Whether it makes devices by itself, and no login is to go by.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "io.element.msc4190")]
    pub msc4190: Option<bool>,
    /// Whether it gives out one-time keys of its users itself, where this server has none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "org.matrix.msc3983")]
    pub msc3983: Option<bool>,
    /// Whether it knows device keys of its users that this server does not have.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "org.matrix.msc3984")]
    pub msc3984: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespaces: Option<Written>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    users: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aliases: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rooms: Option<Vec<Entry>>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tokens are secrets.
        write!(f, "Registration({}, {:?})", self.id, self.url)
    }
}

impl Registration {
    pub(super) fn read(file: &Path) -> Result<Self, RegistrationError> {
        let text = fs::read_to_string(file).map_err(|error| RegistrationError::new(file, error))?;
        Self::parse(&text).map_err(|why| RegistrationError::new(file, why))
    }

    /// Reads the text of a registration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// The application service of this registration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(mut self, server: &ServerName) -> Result<Appservice, String> {
        if self.as_token.is_empty() {
            return Err("`as_token` is empty".to_owned());
        }
        let as_token = self.take_token();
        self.opened(as_token, server)
    }

    fn take_token(&mut self) -> TokenHash {
        TokenHash::of(&std::mem::take(&mut self.as_token))
    }

    fn opened(mut self, as_token: TokenHash, server: &ServerName) -> Result<Appservice, String> {
        let wanted = [("id", &self.id), ("hs_token", &self.hs_token)];
        if let Some((name, _)) = wanted.iter().find(|(_, value)| value.is_empty()) {
            return Err(format!("`{name}` is empty"));
        }
        if self.id.len() > ID_BYTES_MAX {
            return Err(format!("`id` has more than {ID_BYTES_MAX} bytes"));
        }
        let localpart = self.sender_localpart.trim_start_matches('@').split(':').next().unwrap_or_default();
        let sender = UserId::parse_with_server_name(localpart, server)
            .map_err(|error| format!("`sender_localpart`: {error}"))?;
        let Written { users, aliases, rooms } = self.namespaces.take().unwrap_or_default();
        let read = |name: &str, entries: Option<Vec<Entry>>| {
            let read = Namespace::read(entries.unwrap_or_default());
            read.map_err(|error| format!("`namespaces.{name}`: {error}"))
        };
        let (users, aliases) = (read("users", users)?, read("aliases", aliases)?);
        let namespaces = Namespaces { users, aliases, rooms: read("rooms", rooms)? };
        let url = self.url.take().map(|url| String::from(url.trim_end_matches('/')));
        self.url = url.filter(|url| !url.is_empty());
        if let Some(url) = &self.url {
            check_url(url).map_err(|why| format!("`url`: {why}"))?;
        }
        Ok(Appservice { registration: self, as_token, namespaces, sender, origin: Origin::File })
    }

    /// Whether it wants typing, receipts and presence.
    #[must_use]
    pub fn wants_ephemeral(&self) -> bool {
        [self.receive_ephemeral, self.push_ephemeral, self.msc2409].contains(&Some(true))
    }

    /// Whether limits hold for its users. Unless it says otherwise they do.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.rate_limited.unwrap_or(true)
    }

    /// Whether it makes devices by itself, so that it is refused to log its users in. Any other may make devices too.
    #[must_use]
    pub fn makes_devices(&self) -> bool {
        self.msc4190.unwrap_or(false)
    }

    /// Whether it is asked for one-time keys.
    #[must_use]
    pub fn gives_keys(&self) -> bool {
        self.msc3983.unwrap_or(false)
    }

    /// Whether it is asked for device keys.
    #[must_use]
    pub fn knows_keys(&self) -> bool {
        self.msc3984.unwrap_or(false)
    }

    /// Whether it wants to know of devices and keys.
    #[must_use]
    pub fn wants_devices(&self) -> bool {
        self.msc3202.unwrap_or(false)
    }

    /// Whether to-device messages come to it in transactions. One that has not said so encrypts with a client that
    /// syncs, which has to find them there; and those that read them here read them only beside what is ephemeral.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/4203>
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        self.wants_ephemeral() && self.wants_devices()
    }
}

/// Whether requests can be sent to paths below `url`.
fn check_url(url: &str) -> Result<(), String> {
    let parsed: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    match parsed.scheme_str() {
        Some("http" | "https") if parsed.query().is_none() => Ok(()),
        Some("http" | "https") => Err("it must not have a query".to_owned()),
        _ => Err("it must begin with `http://` or `https://`".to_owned()),
    }
}

/// The files that `paths` name, in order.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RegistrationError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|error| RegistrationError::new(path, error))?;
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|file| file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
        found.sort();
        files.extend(found);
    }
    Ok(files)
}
