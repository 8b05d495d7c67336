//! What a server publishes about its keys: read, judged, and taken apart.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
};
use serde::{Deserialize, Serialize};

use crate::{
    keys::{PublicKeyMap, PublicKeySet, canonical_text, parse_object, verify_object},
    limits::{KEY_DOCUMENT_BYTES_MAX, KEY_VALIDITY_MAX_MS, KEYS_OF_SERVER_MAX},
    store::table::{Rows, TableId},
};

/// The keys of other servers, by server and key id.
pub(super) const SERVER_KEYS: Rows<(OwnedServerName, String), KnownKey> = Rows::new(TableId::ServerKey);

/// A key of another server, as its server or a notary has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownKey {
    /// The public key.
    pub(super) key: Base64,
    /// When the server ceased to use it, if it has.
    pub(super) expired_ts: Option<u64>,
    /// Until when the server vouches for it.
    pub(super) valid_until_ts: u64,
    /// When we heard of it.
    pub(super) fetched_ts: u64,
    /// Whether its server told us so itself.
    pub(super) direct: bool,
    /// The signed document that tells.
    pub(super) document: String,
}

impl KnownKey {
    /// Whether a signature of the moment `at` counts.
    pub(super) fn is_valid_at(&self, at: u64) -> bool {
        match self.expired_ts {
            Some(expired) => at <= expired,
            // A server that promises too much is believed for a week.
            None => at <= self.valid_until_ts.min(self.fetched_ts.saturating_add(KEY_VALIDITY_MAX_MS)),
        }
    }
}

/// What a key document says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// Whose keys they are.
    pub server: OwnedServerName,
    /// The ids of the keys in use.
    pub ids: Vec<String>,
    /// Until when they are vouched for, in milliseconds since 1970.
    pub valid_until_ts: u64,
}

/// Reads and judges the answer of `/_matrix/key/v2/server`.
///
/// # Errors
/// What is wrong with it.
pub fn read_key_document(text: &str) -> Result<KeyReport, String> {
    let Document { server, current, valid_until_ts, .. } = Document::parse(text)?;
    Ok(KeyReport { server, ids: current.into_keys().collect(), valid_until_ts })
}

/// A document that its own server has signed.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) server: OwnedServerName,
    pub(super) object: CanonicalJsonObject,
    current: PublicKeySet,
    old: BTreeMap<String, (Base64, u64)>,
    valid_until_ts: u64,
}

impl Document {
    /// Reads a document, which must be signed with one of the keys in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > KEY_DOCUMENT_BYTES_MAX {
            return Err(String::from("the key document is too large"));
        }
        let object = parse_object(text).map_err(|error| error.to_string())?;
        let server = object.get("server_name").and_then(CanonicalJsonValue::as_str).unwrap_or_default();
        let server =
            OwnedServerName::try_from(server).map_err(|_| String::from("`server_name` is no name"))?;
        let valid_until_ts = time(&object, "valid_until_ts").ok_or("`valid_until_ts` is missing")?;
        let current: PublicKeySet = entries(&object, "verify_keys").map(|(id, key, _)| (id, key)).collect();
        let expired = entries(&object, "old_verify_keys");
        let old =
            expired.filter_map(|(id, key, entry)| Some((id, (key, time(entry, "expired_ts")?)))).collect();
        let document = Self { server, object, current, old, valid_until_ts };
        document.is_signed_by(&document.server, document.current.clone())?;
        Ok(document)
    }

    /// Whether `server` has signed it with one of `keys`.
    pub(super) fn is_signed_by(&self, server: &ServerName, keys: PublicKeySet) -> Result<(), String> {
        let map = PublicKeyMap::from([(server.to_string(), keys)]);
        verify_object(server, &self.object, &map).map_err(|error| error.to_string())
    }

    /// The keys in it, as they are to be kept.
    pub(super) fn keys(&self, now: u64, direct: bool) -> BTreeMap<String, KnownKey> {
        let document = canonical_text(&self.object);
        let known = |key: &Base64, expired_ts| KnownKey {
            key: key.clone(),
            expired_ts,
            valid_until_ts: self.valid_until_ts,
            fetched_ts: now,
            direct,
            document: document.clone(),
        };
        let old = self.old.iter().map(|(id, (key, expired))| (id.clone(), known(key, Some(*expired))));
        // A key that is in both lists is in use.
        old.chain(self.current.iter().map(|(id, key)| (id.clone(), known(key, None)))).collect()
    }
}

fn time(object: &CanonicalJsonObject, name: &str) -> Option<u64> {
    let CanonicalJsonValue::Integer(value) = object.get(name)? else { return None };
    u64::try_from(i64::from(*value)).ok()
}

/// The ed25519 keys in one of the lists; what is malformed is passed over, for the sake of its neighbours.
fn entries<'a>(
    object: &'a CanonicalJsonObject,
    list: &str,
) -> impl Iterator<Item = (String, Base64, &'a CanonicalJsonObject)> + use<'a> {
    let list = object.get(list).and_then(CanonicalJsonValue::as_object);
    let entry = |(id, entry): (&'a String, &'a CanonicalJsonValue)| {
        let entry = entry.as_object().filter(|_| id.starts_with("ed25519:"))?;
        let key = entry.get("key")?.as_str()?;
        let key = Base64::<Standard>::parse(key).ok().filter(|key| key.as_bytes().len() == 32)?;
        Some((id.clone(), Base64::new(key.into_inner()), entry))
    };
    list.into_iter().flatten().take(KEYS_OF_SERVER_MAX).filter_map(entry)
}
