//! What settings may be that are no plain texts or numbers.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use ruma::RoomVersionId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::types::Secret;

/// The version of new rooms; always one whose rules are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DefaultRoomVersion(RoomVersionId);

impl DefaultRoomVersion {
    /// The version.
    #[must_use]
    pub fn id(&self) -> &RoomVersionId {
        &self.0
    }
}

impl Default for DefaultRoomVersion {
    fn default() -> Self {
        Self(RoomVersionId::V12)
    }
}

impl<'de> Deserialize<'de> for DefaultRoomVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = RoomVersionId::deserialize(deserializer)?;
        match version.rules() {
            Some(_) => Ok(Self(version)),
            None => Err(de::Error::custom("this server knows the room versions \"1\" to \"12\"")),
        }
    }
}

/// A key with which this server has signed in the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldVerifyKey {
    /// The public half, in base64.
    pub key: String,
    /// When it was used for the last time, in milliseconds since 1970.
    pub expired_ts: u64,
}

/// A provider of identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Part of addresses.
    pub id: String,
    /// For people.
    pub name: String,
    /// The issuer identifier.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// How this server proves that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// A file with the secret instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for.
    #[serde(default = "Provider::usual_scopes")]
    pub scopes: Vec<String>,
    /// The user name that is proposed.
    #[serde(default = "Provider::usual_localpart")]
    pub localpart: String,
}

impl Provider {
    fn usual_scopes() -> Vec<String> {
        ["openid", "profile", "email"].map(String::from).to_vec()
    }

    fn usual_localpart() -> String {
        String::from("{preferred_username}")
    }
}

/// A policy that newcomers have to accept, in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which policy it is.
    pub id: String,
    /// Of which text.
    pub version: String,
    /// How it is called.
    pub name: String,
    /// Where it is read.
    pub url: String,
    /// In which language.
    #[serde(default = "Policy::usual_language")]
    pub language: String,
}

impl Policy {
    fn usual_language() -> String {
        String::from("en")
    }
}

/// What an object store wants to be told. Some of it is secret, so it is never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(pub BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests per second, on average.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u32,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Nobody, without the shared secret.
    Closed,
    /// Whoever knows a token.
    Token,
    /// Everybody.
    Open,
}

/// Whose invites reach the users of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvitesFrom {
    /// Everybody's.
    Anyone,
    /// Of those who share a room with whom they invite.
    SharedRoom,
    /// Of users of this server.
    Local,
}

/// Whether newcomers prove a mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationEmail {
    /// They are not asked.
    Off,
    /// They may.
    Offered,
    /// They have to.
    Required,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailProtection {
    /// By TLS from the first byte.
    Tls,
    /// By TLS after a greeting.
    Starttls,
    /// Not at all.
    Plain,
}

/// When an acknowledged request is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Always.
    EveryCommit,
    /// A power cut may take the last seconds.
    LoseLastSecondsOnPowerCut,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which store engine.
#[derive(Clone, PartialEq, Eq)]
pub enum Engine {
    /// In the data folder.
    Embedded,
    /// In memory only.
    Memory,
    /// In the PostgreSQL database of this URL.
    Postgres(String),
}

impl FromStr for Engine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "memory" => Ok(Self::Memory),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(String::from(url)))
            }
            _ => Err("the engine is `embedded`, `memory` or `postgres://…`"),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Postgres(_) => "postgres",
        })
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Postgres(url) => url,
        })
    }
}

impl<'de> Deserialize<'de> for Engine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
