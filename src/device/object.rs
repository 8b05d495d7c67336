//! Signed key objects: reading them and checking their signatures.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId,
    encryption::{DeviceKeys, OneTimeKey},
    serde::{Base64, Raw, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};
use serde_json::value::RawValue;

use super::DeviceError;
use crate::{keys, limits::KEY_OBJECT_BYTES_MAX};

/// The id under which a device's or user's ed25519 key signs.
pub(super) fn ed25519(name: &str) -> String {
    format!("ed25519:{name}")
}

/// Reads a key object, refusing what cannot be signed.
pub(super) fn parse(text: &RawValue) -> Result<CanonicalJsonObject, DeviceError> {
    if text.get().len() > KEY_OBJECT_BYTES_MAX {
        return Err(DeviceError::TooLarge);
    }
    keys::parse_object(text.get()).map_err(|error| DeviceError::BadJson(format!("a key object: {error}")))
}

/// Reads the device keys of `device` and checks that they belong to it and that it signed them. Keeps
/// its own signature and, in the second place, those of the user's other keys.
pub(super) fn parse_device_keys(
    user: &UserId,
    device: &DeviceId,
    raw: &Raw<DeviceKeys>,
) -> Result<(CanonicalJsonObject, Vec<(String, String)>), DeviceError> {
    let mut object = parse(raw.json())?;
    let keys = raw.deserialize().map_err(|error| DeviceError::BadJson(format!("device_keys: {error}")))?;
    if keys.user_id != user || keys.device_id != device {
        return Err(DeviceError::Invalid("device_keys name another user or device".into()));
    }
    if let Some(id) = keys.keys.keys().find(|id| id.key_name() != device) {
        return Err(DeviceError::Invalid(format!("the key {id} is not one of this device")));
    }
    let own = ed25519(device.as_str());
    let Some(public) = public_key(&object, &own).map(String::from) else {
        return Err(DeviceError::Invalid("device_keys have no ed25519 key".into()));
    };
    object.remove("unsigned");
    let mut signatures = signatures_by(&object, user);
    let place = signatures.iter().position(|(id, _)| *id == own);
    // Keys that their device has not signed are of no use to anybody, and other clients know it.
    let signature = place.map(|place| signatures.remove(place).1);
    if let Some(signature) = &signature
        && !is_signed(&object, signature, &public)
    {
        return Err(DeviceError::InvalidSignature("the device's signature of its keys is wrong".into()));
    }
    let kept = signature
        .map_or_else(|| CanonicalJsonObject::new().into(), |signature| signature_map(user, &own, &signature));
    object.insert("signatures".into(), kept);
    Ok((object, signatures))
}

/// Reads a one-time or fallback key: text, or an object with a `key` and perhaps signatures.
pub(super) fn parse_one_time_key(raw: &Raw<OneTimeKey>) -> Result<CanonicalJsonValue, DeviceError> {
    let text = raw.json().get();
    if text.len() > KEY_OBJECT_BYTES_MAX {
        return Err(DeviceError::TooLarge);
    }
    let bad = |why: &str| DeviceError::BadJson(format!("a one-time key: {why}"));
    let value: CanonicalJsonValue = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
    match &value {
        CanonicalJsonValue::String(_) => {}
        CanonicalJsonValue::Object(object) => {
            if !object.get("key").is_some_and(|key| key.is_string()) {
                return Err(bad("it has no `key`"));
            }
            let signatures = object.get("signatures");
            if signatures.is_some_and(|all| !all.as_object().is_some_and(is_map_of_maps_of_text)) {
                return Err(bad("its `signatures` are malformed"));
            }
        }
        _ => return Err(bad("it is neither text nor an object")),
    }
    Ok(value)
}

fn is_map_of_maps_of_text(object: &CanonicalJsonObject) -> bool {
    object
        .values()
        .all(|inner| inner.as_object().is_some_and(|inner| inner.values().all(CanonicalJsonValue::is_string)))
}

/// The public key with this id.
pub(super) fn public_key<'a>(object: &'a CanonicalJsonObject, key_id: &str) -> Option<&'a str> {
    object.get("keys")?.as_object()?.get(key_id)?.as_str()
}

/// The one key of a cross-signing key: its id and the public key.
pub(super) fn only_key(object: &CanonicalJsonObject) -> Option<(&str, &str)> {
    let keys = object.get("keys")?.as_object()?;
    let (id, public) = keys.iter().next()?;
    match keys.len() {
        1 => Some((id, public.as_str()?)),
        _ => None,
    }
}

/// The signatures that `user` put on an object, by key id.
pub(super) fn signatures_by(object: &CanonicalJsonObject, user: &UserId) -> Vec<(String, String)> {
    object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|all| all.get(user.as_str()))
        .and_then(CanonicalJsonValue::as_object)
        .map(|own| {
            own.iter().filter_map(|(id, text)| Some((id.clone(), text.as_str()?.to_owned()))).collect()
        })
        .unwrap_or_default()
}

/// The value of `signatures` with one signature.
pub(super) fn signature_map(user: &UserId, key_id: &str, signature: &str) -> CanonicalJsonValue {
    let own = CanonicalJsonObject::from([(key_id.to_owned(), signature.to_owned().into())]);
    CanonicalJsonObject::from([(user.to_string(), own.into())]).into()
}

/// Adds a signature to an object.
pub(super) fn add_signature(object: &mut CanonicalJsonObject, user: &UserId, key_id: &str, signature: &str) {
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    let all = object.entry("signatures".into()).or_insert_with(empty);
    let CanonicalJsonValue::Object(all) = all else { return };
    let own = all.entry(user.to_string()).or_insert_with(empty);
    if let CanonicalJsonValue::Object(own) = own {
        own.insert(key_id.to_owned(), signature.to_owned().into());
    }
}

/// The object without what is not signed.
pub(super) fn bare(mut object: CanonicalJsonObject) -> CanonicalJsonObject {
    object.remove("signatures");
    object.remove("unsigned");
    object
}

/// Whether `signature` is one of the object by the ed25519 key `public`; both in base64.
///
/// <https://spec.matrix.org/v1.19/appendices/#checking-for-a-signature>
pub(super) fn is_signed(object: &CanonicalJsonObject, signature: &str, public: &str) -> bool {
    let (Ok(signature), Ok(public)) =
        (Base64::<Standard>::parse(signature), Base64::<Standard>::parse(public))
    else {
        return false;
    };
    let Ok(text) = to_canonical_json_string_for_signing(object) else { return false };
    let algorithm = "ed25519".into();
    verify_canonical_json_bytes(&algorithm, public.as_bytes(), signature.as_bytes(), text.as_bytes()).is_ok()
}

/// The object as ruma's types want it.
pub(super) fn to_raw<T>(object: &impl serde::Serialize) -> Result<Raw<T>, DeviceError> {
    let json = serde_json::value::to_raw_value(object).map_err(crate::store::StoreError::engine)?;
    Ok(Raw::from_json(json))
}
