//! Whether an event or object was signed by those who had to sign it.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{
        VerificationError, Verified, required_server_signatures_to_verify_event,
        to_canonical_json_string_for_signing, verify_canonical_json_bytes,
    },
};

use super::PublicKeyMap;

/// How much of an event is as its signers wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// All of it.
    Whole,
    /// The content hash does not match: only what survives redaction is signed.
    Redacted,
}

/// Why the signatures of an event or object are not good.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// None of these keys is known. That says nothing about the signature: fetch them and try again.
    #[error("keys are missing to check the signatures: {0:?}")]
    MissingKeys(BTreeMap<OwnedServerName, BTreeSet<String>>),
    /// A server that must sign did not.
    #[error("{0} has not signed")]
    Unsigned(OwnedServerName),
    /// A signature is wrong, or the object too malformed to check it.
    #[error("bad signature: {0}")]
    Bad(#[from] VerificationError),
}

/// The servers whose signatures an event needs.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>
pub fn required_signers(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<BTreeSet<OwnedServerName>, VerifyError> {
    Ok(required_server_signatures_to_verify_event(object, &rules.signatures)?)
}

/// Checks the hash and the signatures of an event against `keys`, which holds the keys that were valid
/// when the event was made.
pub fn verify_event(
    object: &CanonicalJsonObject,
    keys: &PublicKeyMap,
    rules: &RoomVersionRules,
) -> Result<Integrity, VerifyError> {
    let signers = required_signers(object, rules)?;
    let mut missing = BTreeMap::new();
    for server in signers {
        let signed = key_ids(object, &server)?;
        let known = keys.get(server.as_str());
        if !signed.iter().any(|id| known.is_some_and(|known| known.contains_key(id))) {
            missing.insert(server, signed);
        }
    }
    if !missing.is_empty() {
        return Err(VerifyError::MissingKeys(missing));
    }
    match ruma::signatures::verify_event(keys, object, rules)? {
        Verified::All => Ok(Integrity::Whole),
        Verified::Signatures => Ok(Integrity::Redacted),
    }
}

/// Checks that `server` signed `object` with at least one known key, and that no known key disagrees.
pub fn verify_object(
    server: &ServerName,
    object: &CanonicalJsonObject,
    keys: &PublicKeyMap,
) -> Result<(), VerifyError> {
    let signed = key_ids(object, server)?;
    let text = to_canonical_json_string_for_signing(object).map_err(VerificationError::from)?;
    let mut checked = false;
    for id in &signed {
        let Some(key) = keys.get(server.as_str()).and_then(|known| known.get(id)) else { continue };
        let signature =
            signature(object, server, id).ok_or_else(|| VerifyError::Unsigned(server.to_owned()))?;
        let algorithm = id.split(':').next().unwrap_or_default().into();
        verify_canonical_json_bytes(&algorithm, key.as_bytes(), &signature, text.as_bytes())?;
        checked = true;
    }
    match checked {
        true => Ok(()),
        false => Err(VerifyError::MissingKeys(BTreeMap::from([(server.to_owned(), signed)]))),
    }
}

/// Checks that `signature` is that of `text` by the ed25519 key `key`.
pub fn verify_text(key: &Base64, signature: &Base64, text: &[u8]) -> Result<(), VerifyError> {
    Ok(verify_canonical_json_bytes(&"ed25519".into(), key.as_bytes(), signature.as_bytes(), text)?)
}

/// The ed25519 keys with which `server` signed `object`; an error if there is none.
fn key_ids(object: &CanonicalJsonObject, server: &ServerName) -> Result<BTreeSet<String>, VerifyError> {
    let ids: BTreeSet<String> = object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|all| all.get(server.as_str()))
        .and_then(CanonicalJsonValue::as_object)
        .map(|set| set.keys().filter(|id| id.starts_with("ed25519:")).cloned().collect())
        .unwrap_or_default();
    match ids.is_empty() {
        true => Err(VerifyError::Unsigned(server.to_owned())),
        false => Ok(ids),
    }
}

fn signature(object: &CanonicalJsonObject, server: &ServerName, key_id: &str) -> Option<Vec<u8>> {
    let all = object.get("signatures")?.as_object()?;
    let text = all.get(server.as_str())?.as_object()?.get(key_id)?.as_str()?;
    ruma::serde::Base64::<ruma::serde::base64::Standard>::parse(text).ok().map(|bytes| bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use ruma::{CanonicalJsonObject, owned_server_name, room_version_rules::RoomVersionRules};

    use super::{Integrity, VerifyError, verify_event};
    use crate::keys::{PublicKeyMap, SigningKey, parse_object};

    fn key() -> SigningKey {
        SigningKey::from_seed(owned_server_name!("a.org"), "k1", [7; 32]).unwrap()
    }

    fn signed() -> CanonicalJsonObject {
        let mut object = parse_object(
            r#"{"type":"m.room.message","sender":"@u:a.org","room_id":"!r:a.org","content":{"body":"hi"},
                "origin_server_ts":1,"depth":1,"prev_events":[],"auth_events":[]}"#,
        )
        .unwrap();
        key().hash_and_sign(&mut object, &RoomVersionRules::V11).unwrap();
        object
    }

    #[test]
    fn a_whole_event_is_whole() {
        let verdict = verify_event(&signed(), &key().public_keys(), &RoomVersionRules::V11).unwrap();
        assert_eq!(verdict, Integrity::Whole);
    }

    #[test]
    fn a_changed_content_leaves_the_redacted_part() {
        let mut object = signed();
        object.insert(String::from("content"), CanonicalJsonObject::new().into());
        let verdict = verify_event(&object, &key().public_keys(), &RoomVersionRules::V11).unwrap();
        assert_eq!(verdict, Integrity::Redacted);
    }

    #[test]
    fn a_changed_envelope_is_bad() {
        let mut object = signed();
        object.insert(String::from("depth"), ruma::int!(2).into());
        let verdict = verify_event(&object, &key().public_keys(), &RoomVersionRules::V11);
        assert!(matches!(verdict, Err(VerifyError::Bad(_))), "{verdict:?}");
    }

    #[test]
    fn an_unknown_key_is_missing_and_not_bad() {
        let verdict = verify_event(&signed(), &PublicKeyMap::new(), &RoomVersionRules::V11);
        assert!(matches!(verdict, Err(VerifyError::MissingKeys(_))), "{verdict:?}");
    }

    #[test]
    fn no_signature_at_all_is_unsigned() {
        let mut object = signed();
        object.remove("signatures");
        let verdict = verify_event(&object, &key().public_keys(), &RoomVersionRules::V11);
        assert!(matches!(verdict, Err(VerifyError::Unsigned(_))), "{verdict:?}");
    }
}
