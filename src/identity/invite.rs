//! Invites of those whom nobody knows: the identity server keeps them until the address is bound, and writes to it.
//!
//! <https://spec.matrix.org/v1.19/identity-service-api/#invitation-storage>

use ruma::{
    OwnedRoomId, OwnedUserId, ServerName,
    serde::{
        Base64,
        base64::{Standard, UrlSafe},
    },
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Address, Desk, Identity, IdentityError, ask::Proof};
use crate::limits::{ADDRESS_KEYS_MAX, ADDRESS_TEXT_BYTES_MAX, ADDRESS_TOKEN_BYTES_MAX};

/// Bytes of a key of ed25519.
const KEY_BYTES: usize = 32;

/// What an identity server is told of an invite, for the letter that it writes.
#[derive(Clone, Debug, Serialize)]
pub struct Invitation {
    /// Into which room.
    pub room_id: OwnedRoomId,
    /// By whom.
    pub sender: OwnedUserId,
    /// The room's canonical alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_alias: Option<String>,
    /// The room's picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_avatar_url: Option<String>,
    /// The room's join rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_join_rules: Option<String>,
    /// The room's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_name: Option<String>,
    /// What kind of room it is, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
    /// How who invites is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_display_name: Option<String>,
    /// Their picture there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_avatar_url: Option<String>,
}

/// An invite that an identity server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is known by: the state key of its event.
    pub token: String,
    /// The content of its `m.room.third_party_invite` event.
    pub content: Map<String, Value>,
}

impl Identity {
    /// Has an identity server keep an invite of an address, and write to it.
    ///
    /// # Errors
    /// When it does not, or its answer makes no event.
    pub async fn keep_invite(
        &self,
        desk: Desk<'_>,
        address: &Address,
        invitation: &Invitation,
    ) -> Result<Kept, IdentityError> {
        let server = self.trusted(desk.server)?;
        let mut body = serde_json::to_value(invitation).unwrap_or_default();
        body["medium"] = json!(address.medium);
        body["address"] = json!(address.address);
        let answer = self.post(server, "/store-invite", (Proof::Token(desk.token), &body)).await?;
        kept(server, answer)
    }
}

/// What the answer of `server` comes to.
fn kept(server: &ServerName, answer: Value) -> Result<Kept, IdentityError> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let token = text("token").filter(|token| is_token(token));
    let token = token.ok_or(IdentityError::BadAnswer("there is no token"))?.to_owned();
    let name = text("display_name").filter(|name| name.len() <= ADDRESS_TEXT_BYTES_MAX);
    let name = name.ok_or(IdentityError::BadAnswer("there is no name"))?;
    let validity = format!("https://{server}/_matrix/identity/v2/pubkey/isvalid");
    let named = answer.get("public_keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut keys: Vec<Map<String, Value>> = named.iter().take(ADDRESS_KEYS_MAX).filter_map(key).collect();
    // Older identity servers name one key, by itself.
    if let Some(single) = text("public_key").filter(|key| keys.is_empty() && is_key(key)) {
        let single = [("public_key", json!(single)), ("key_validity_url", json!(validity))];
        keys.push(single.map(|(name, value)| (String::from(name), value)).into_iter().collect());
    }
    let first = keys.first().ok_or(IdentityError::BadAnswer("there is no key"))?;
    let mut content = Map::new();
    content.insert(String::from("display_name"), json!(name));
    content.insert(String::from("public_key"), first["public_key"].clone());
    let first_validity = first.get("key_validity_url").cloned();
    content.insert(String::from("key_validity_url"), first_validity.unwrap_or(json!(validity)));
    content.insert(String::from("public_keys"), json!(keys));
    Ok(Kept { token, content })
}

fn is_token(token: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte);
    !token.is_empty() && token.len() <= ADDRESS_TOKEN_BYTES_MAX && token.bytes().all(allowed)
}

/// An entry of `public_keys`, without what is not of the specification.
fn key(entry: &Value) -> Option<Map<String, Value>> {
    let public = entry.get("public_key")?.as_str().filter(|key| is_key(key))?;
    let mut key = Map::from_iter([(String::from("public_key"), json!(public))]);
    if let Some(url) = entry.get("key_validity_url").filter(|url| !url.is_null()) {
        let url = url.as_str().filter(|url| url.len() <= ADDRESS_TEXT_BYTES_MAX)?;
        key.insert(String::from("key_validity_url"), json!(url));
    }
    Some(key)
}

fn is_key(text: &str) -> bool {
    public_key(text).is_some()
}

/// A key as events have it, in either alphabet.
pub(super) fn public_key(text: &str) -> Option<Base64> {
    let standard = Base64::<Standard>::parse(text).map(Base64::into_inner);
    let bytes = standard.or_else(|_| Base64::<UrlSafe>::parse(text).map(Base64::into_inner)).ok()?;
    (bytes.len() == KEY_BYTES).then(|| Base64::new(bytes))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::{Value, json};

    use super::kept;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+";

    #[track_caller]
    fn check(change: Value, expected: Result<Value, &str>) {
        let key = json!({ "public_key": KEY, "key_validity_url": "https://i.org/v", "extra": 1 });
        let mut answer = json!({ "token": "a-token", "display_name": "b...@e...", "public_keys": [key] });
        for (name, value) in change.as_object().unwrap() {
            answer[name] = value.clone();
        }
        let found = kept(server_name!("i.org"), answer);
        let found = found.map(|kept| Value::from(kept.content)).map_err(|error| error.to_string());
        let expected =
            expected.map_err(|why| format!("the answer of the identity server makes no sense: {why}"));
        assert_eq!(found, expected, "{change}");
    }

    #[test]
    fn an_answer_becomes_an_event() {
        let whole = json!({
            "display_name": "b...@e...", "public_key": KEY, "key_validity_url": "https://i.org/v",
            "public_keys": [{ "public_key": KEY, "key_validity_url": "https://i.org/v" }],
        });
        check(json!({}), Ok(whole.clone()));
        let url = "https://i.org/_matrix/identity/v2/pubkey/isvalid";
        let single = json!({
            "display_name": "b...@e...", "public_key": KEY, "key_validity_url": url,
            "public_keys": [{ "public_key": KEY, "key_validity_url": url }],
        });
        check(json!({ "public_keys": null, "public_key": KEY }), Ok(single));
        let bare = json!({
            "display_name": "b...@e...", "public_key": KEY, "key_validity_url": url,
            "public_keys": [{ "public_key": KEY }],
        });
        check(json!({ "public_keys": [{ "public_key": KEY }] }), Ok(bare));
        check(json!({ "public_keys": [{ "public_key": "short" }, 7] }), Err("there is no key"));
        check(json!({ "public_keys": [] }), Err("there is no key"));
        check(json!({ "token": "" }), Err("there is no token"));
        check(json!({ "token": "a token" }), Err("there is no token"));
        check(json!({ "token": "t".repeat(256) }), Err("there is no token"));
        check(json!({ "token": 7 }), Err("there is no token"));
        check(json!({ "display_name": null }), Err("there is no name"));
        check(json!({ "display_name": "n".repeat(2_000) }), Err("there is no name"));
        check(json!({ "public_keys": vec![json!({ "public_key": "x" }); 20] }), Err("there is no key"));
    }
}
