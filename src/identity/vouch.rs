//! Whether an identity server still stands by its word that an address is a user's.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>

use ruma::{
    CanonicalJsonObject, ServerName,
    serde::{Base64, base64::Standard},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::{Identity, IdentityError, invite::public_key};
use crate::{
    keys::{canonical_text, verify_text},
    limits::ADDRESS_KEYS_MAX,
};

/// A key with which an invite may be signed.
struct Key<'a> {
    public: &'a str,
    validity: Option<&'a str>,
}

impl Identity {
    /// Whether the key is still good with which `signed` is signed for the invite of this content. Identity servers
    /// that are not asked are believed, as are keys that nobody can be asked about; whether there is a good signature
    /// at all, the rules of the room say.
    ///
    /// # Errors
    /// When the identity server does not say.
    pub async fn vouches(&self, invite: &Map<String, Value>, signed: &Value) -> Result<bool, IdentityError> {
        let mut is_good = true;
        for key in signing(&keys(invite), signed) {
            is_good = match self.validity(key) {
                Some((server, url)) => self.is_valid(server, &url).await?,
                None => true,
            };
            if is_good {
                break;
            }
        }
        Ok(is_good)
    }

    /// Whom to ask about a key, and at which address.
    fn validity(&self, key: &Key<'_>) -> Option<(&ServerName, String)> {
        let mut url = Url::parse(key.validity?).ok().filter(|url| url.scheme() == "https")?;
        let host = url.host_str()?;
        let authority = url.port().map_or_else(|| String::from(host), |port| format!("{host}:{port}"));
        let server = self.trusted(&authority).or_else(|_| self.trusted(&format!("{host}:443"))).ok()?;
        url.query_pairs_mut().append_pair("public_key", key.public);
        Some((server, url.into()))
    }

    async fn is_valid(&self, server: &ServerName, url: &str) -> Result<bool, IdentityError> {
        #[derive(Deserialize)]
        struct Answer {
            valid: bool,
        }
        let answer: Answer = self.visit(server, url).await?;
        Ok(answer.valid)
    }
}

fn keys(invite: &Map<String, Value>) -> Vec<Key<'_>> {
    fn key<'a>(entry: Option<&'a Value>, validity: Option<&'a Value>) -> Option<Key<'a>> {
        Some(Key { public: entry?.as_str()?, validity: validity.and_then(Value::as_str) })
    }
    let listed = invite.get("public_keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let listed = listed.iter().take(ADDRESS_KEYS_MAX);
    let listed = listed.filter_map(|entry| key(entry.get("public_key"), entry.get("key_validity_url")));
    listed.chain(key(invite.get("public_key"), invite.get("key_validity_url"))).collect()
}

/// Those of `keys` with which `signed` is signed.
fn signing<'a, 'b>(keys: &'b [Key<'a>], signed: &Value) -> Vec<&'b Key<'a>> {
    let Ok(mut object) = serde_json::from_value::<CanonicalJsonObject>(signed.clone()) else {
        return Vec::new();
    };
    object.remove("signatures");
    object.remove("unsigned");
    let text = canonical_text(&object);
    let servers = signed.get("signatures").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let signatures = servers.filter_map(Value::as_object).flat_map(Map::values).filter_map(Value::as_str);
    let signatures: Vec<Base64> =
        signatures.filter_map(|text| Base64::<Standard>::parse(text).ok()).take(ADDRESS_KEYS_MAX).collect();
    let fits = |key: &&Key<'_>| {
        let Some(public) = public_key(key.public) else { return false };
        signatures.iter().any(|signature| verify_text(&public, signature, text.as_bytes()).is_ok())
    };
    keys.iter().filter(fits).collect()
}
