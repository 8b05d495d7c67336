//! `GET /_lockstep/admin/v1/users/{userId}/encryption`: whether somebody's devices will be able to read what was said, as
//! far as that can be seen from outside: no key and nothing encrypted is told.

use std::collections::BTreeMap;

use axum::response::Response;
use ruma::{OwnedUserId, UserId};
use serde_json::{Value, json};

use super::{admit, answer, known};
use crate::{
    device::{DeviceError, QueriedKeys},
    http::{App, Call, Failure},
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = known(&app, &call).await?;
    let wanted = BTreeMap::from([(user.clone(), Vec::new())]);
    let keys = app.devices.query_keys(Some(&user), &wanted).await?;
    let (master, self_signing) = (key_of(&keys.master_keys, &user)?, key_of(&keys.self_signing_keys, &user)?);
    let backup = found(app.devices.latest_backup(&user).await)?.map(|backup| {
        json!({
            "version": backup.version,
            "algorithm": backup.algorithm,
            "count": backup.state.count,
            "etag": backup.state.etag,
            "signed_by_master_key": is_signed(&backup.auth_data, &user, master.as_deref()),
        })
    });
    let dehydrated = found(app.devices.dehydrated(&user).await)?.map(|device| device.device_id);
    let mut devices = Vec::new();
    for (id, row) in app.devices.list(&user).await? {
        let (has_keys, is_cross_signed) = device(&keys, (&user, &id), self_signing.as_deref())?;
        devices.push(json!({
            "device_id": id,
            "display_name": row.display_name,
            "has_keys": has_keys,
            "cross_signed": is_cross_signed,
        }));
    }
    Ok(answer(json!({
        "cross_signing": master.is_some(),
        "devices": devices,
        "backup": backup,
        "dehydrated_device": dehydrated,
    })))
}

/// Nothing for what does not exist.
fn found<T>(found: Result<T, DeviceError>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(DeviceError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The id of a user's key in a list of cross-signing keys.
fn key_of(
    keys: &BTreeMap<OwnedUserId, ruma::serde::Raw<ruma::encryption::CrossSigningKey>>,
    user: &UserId,
) -> Result<Option<String>, Failure> {
    let Some(key) = keys.get(user) else { return Ok(None) };
    let ids = key.get_field::<BTreeMap<String, String>>("keys").map_err(Failure::internal)?;
    Ok(ids.and_then(|ids| ids.into_keys().next()))
}

/// Whether a device has published keys, and whether they are signed by the user's self-signing key.
fn device(
    keys: &QueriedKeys,
    (user, device): (&OwnedUserId, &ruma::DeviceId),
    self_signing: Option<&str>,
) -> Result<(bool, bool), Failure> {
    let Some(keys) = keys.device_keys.get(user).and_then(|devices| devices.get(device)) else {
        return Ok((false, false));
    };
    let signed: Value = serde_json::from_str(keys.json().get()).map_err(Failure::internal)?;
    Ok((true, is_signed(&signed, user, self_signing)))
}

fn is_signed(object: &Value, user: &UserId, key: Option<&str>) -> bool {
    key.is_some_and(|key| object["signatures"][user.as_str()].get(key).is_some())
}
