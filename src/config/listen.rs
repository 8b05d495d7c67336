//! Where the server listens.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// The certificate chain and the key, PEM files, when it serves HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket, which is replaced if nobody listens on it.
    Unix(PathBuf),
}

impl Listen {
    /// A listener without TLS.
    #[must_use]
    pub fn plain(address: Address) -> Self {
        Self { address, tls: None }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let with_port = text.replacen("localhost:", "127.0.0.1:", 1);
        let parsed = with_port.parse().map(Self::Tcp);
        parsed.map_err(|_| format!("`{text}` is no `ADDRESS:PORT` and no `unix:/path`"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: String,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl TryFrom<Table> for Listen {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, Self::Error> {
        let address = table.address.parse()?;
        let tls = match (table.tls_certificate, table.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(String::from("`tls_certificate` and `tls_key` belong together")),
        };
        Ok(Self { address, tls })
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.address.to_string();
        match self.tls.clone() {
            None => serializer.serialize_str(&address),
            Some((certificate, key)) => {
                Table { address, tls_certificate: Some(certificate), tls_key: Some(key) }
                    .serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a table with `address`, `tls_certificate` and `tls_key`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map(Listen::plain).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Listen::try_from(table).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Entry)
    }
}
