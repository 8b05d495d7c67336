//! Canonical JSON, this server's signing key, and signing and checking of events and objects.
//!
//! Owns: the [`SigningKey`], hashes and event ids, and the judgement of signatures. May use: `types`,
//! `store`. Start reading at [`SigningKey`] and [`verify_event`]. Invariants: a key that is not known
//! is [`VerifyError::MissingKeys`] and never "bad signature"; the secret never appears in `Debug`.

mod signing;
mod verify;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, IdParseError, OwnedEventId, room_version_rules::RoomVersionRules,
};

pub use ruma::signatures::{PublicKeyMap, PublicKeySet};
pub use signing::{KeyError, SigningKey};
pub use verify::{Integrity, VerifyError, required_signers, verify_event, verify_object, verify_text};

/// What can be wrong with an object that is to be hashed or signed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A field that hashing or signing needs is absent, of the wrong type, or the object is too large.
    #[error("the object cannot be hashed or signed: {0}")]
    Object(#[from] ruma::signatures::JsonError),
    /// The computed id is not an event id.
    #[error("the event id is malformed: {0}")]
    EventId(#[from] IdParseError),
}

/// Reads a JSON object, refusing what canonical JSON cannot express: floats and integers beyond ±2^53.
///
/// <https://spec.matrix.org/v1.19/appendices/#canonical-json>
pub fn parse_object(text: &str) -> Result<CanonicalJsonObject, serde_json::Error> {
    serde_json::from_str(text)
}

/// The canonical JSON text of `object`.
#[must_use]
pub fn canonical_text(object: &CanonicalJsonObject) -> String {
    // The map is in canonical order, and serde_json writes strings and integers canonically.
    serde_json::to_string(object).expect("a map of strings, integers, booleans and nulls can be written")
}

/// The reference hash of an event in the base64 alphabet that its room version uses.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>
pub fn reference_hash(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<String, ObjectError> {
    Ok(ruma::signatures::reference_hash(object, rules)?)
}

/// The id of an event: the field `event_id` in room versions 1 and 2, else `$` and the reference hash.
pub fn event_id(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<OwnedEventId, ObjectError> {
    if rules.event_format.require_event_id {
        let id = object.get("event_id").and_then(CanonicalJsonValue::as_str).unwrap_or_default();
        return Ok(OwnedEventId::try_from(id)?);
    }
    Ok(OwnedEventId::try_from(format!("${}", reference_hash(object, rules)?))?)
}
