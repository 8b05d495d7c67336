//! Registrations as the operator writes them.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#registration>

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use ruma::{ServerName, UserId};
use serde::Deserialize;

use super::{
    Appservice, Namespaces, RegistrationError,
    namespace::{Entry, Namespace},
};

/// A registration. What this server does not know of is passed over.
#[derive(Clone, Deserialize)]
pub struct Registration {
    /// Names the application service.
    pub id: String,
    /// Where it is; without one it gets no transactions.
    #[serde(default)]
    pub url: Option<String>,
    /// With which it comes to us.
    pub as_token: String,
    /// With which we come to it.
    pub hs_token: String,
    /// The local part of the user that stands for it.
    pub sender_localpart: String,
    /// Whether limits hold for its users.
    #[serde(default)]
    pub rate_limited: Option<bool>,
    /// The networks that it connects to.
    #[serde(default)]
    pub protocols: Option<Vec<String>>,
    /// Whether it wants typing, receipts, presence and to-device messages.
    #[serde(default)]
    pub receive_ephemeral: Option<bool>,
    /// The same by the name that it had before.
    #[serde(default)]
    pub push_ephemeral: Option<bool>,
    /// The same by the name that it had at first.
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    pub msc2409: Option<bool>,
    /// Whether it wants to know of devices and keys, for encryption.
    #[serde(default, rename = "org.matrix.msc3202")]
    pub msc3202: Option<bool>,
    /// Whether it makes devices by itself, without a login.
    #[serde(default, rename = "io.element.msc4190")]
    pub msc4190: Option<bool>,
    #[serde(default)]
    namespaces: Option<Written>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Written {
    #[serde(default)]
    users: Option<Vec<Entry>>,
    #[serde(default)]
    aliases: Option<Vec<Entry>>,
    #[serde(default)]
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
        let read: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let wanted = [("id", &read.id), ("as_token", &read.as_token), ("hs_token", &read.hs_token)];
        match wanted.iter().find(|(_, value)| value.is_empty()) {
            Some((name, _)) => Err(format!("`{name}` is empty")),
            None => Ok(read),
        }
    }

    /// The application service of this registration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(mut self, server: &ServerName) -> Result<Appservice, String> {
        let localpart = self.sender_localpart.trim_start_matches('@').split(':').next().unwrap_or_default();
        let sender = UserId::parse_with_server_name(localpart, server)
            .map_err(|error| format!("`sender_localpart`: {error}"))?;
        let Written { users, aliases, rooms } = self.namespaces.take().unwrap_or_default();
        let read = |entries: Option<Vec<Entry>>| {
            Namespace::read(entries.unwrap_or_default()).map_err(|error| error.to_string())
        };
        let namespaces = Namespaces { users: read(users)?, aliases: read(aliases)?, rooms: read(rooms)? };
        let url = self.url.take().map(|url| String::from(url.trim_end_matches('/')));
        self.url = url.filter(|url| !url.is_empty());
        Ok(Appservice { registration: self, namespaces, sender })
    }

    /// Whether it wants typing, receipts and to-device messages.
    #[must_use]
    pub fn wants_ephemeral(&self) -> bool {
        [self.receive_ephemeral, self.push_ephemeral, self.msc2409].contains(&Some(true))
    }

    /// Whether limits hold for its users. Unless it says otherwise they do.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.rate_limited.unwrap_or(true)
    }

    /// Whether it makes devices by itself.
    #[must_use]
    pub fn makes_devices(&self) -> bool {
        self.msc4190.unwrap_or(false)
    }

    /// Whether it wants to know of devices and keys.
    #[must_use]
    pub fn wants_devices(&self) -> bool {
        self.msc3202.unwrap_or(false)
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
