//! Server-side key backups.

use std::collections::BTreeMap;

use http::Method;
use ruma::{
    UInt,
    api::{
        Metadata,
        client::backup::{BackupAlgorithm, KeyBackupData, get_backup_keys, get_backup_keys_for_room},
        path_builder::PathBuilder,
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    device::{BackupInfo, BackupState},
    http::{Access, Failure, Routes},
};

mod create_version;
mod delete_keys;
mod delete_keys_room;
mod delete_keys_session;
mod delete_version;
mod get_keys;
mod get_keys_room;
mod get_keys_session;
mod get_version;
mod latest_version;
mod put_keys;
mod put_keys_room;
mod put_keys_session;
mod reading;
mod update_version;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(create_version::handle);
    routes.add(latest_version::handle);
    routes.add(get_version::handle);
    routes.add(update_version::handle);
    routes.add(delete_version::handle);
    routes.add(put_keys::handle);
    routes.add(put_keys_room::handle);
    routes.add(put_keys_session::handle);
    for path in get_backup_keys::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, get_keys::handle);
    }
    for path in get_backup_keys_for_room::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, get_keys_room::handle);
    }
    routes.add(get_keys_session::handle);
    routes.add(delete_keys::handle);
    routes.add(delete_keys_room::handle);
    routes.add(delete_keys_session::handle);
}

/// What a client says of a backup. Kept as it is: algorithms that this server does not know are fine.
#[derive(Deserialize)]
struct Described {
    algorithm: String,
    auth_data: Value,
    version: Option<String>,
}

impl Described {
    fn read(body: &Raw<BackupAlgorithm>) -> Result<Self, Failure> {
        let described: Self =
            serde_json::from_str(body.json().get()).map_err(|error| Failure::bad_json(error.to_string()))?;
        match described.auth_data.is_object() {
            true => Ok(described),
            false => Err(Failure::bad_json("`auth_data` is not an object")),
        }
    }
}

fn describe(info: &BackupInfo) -> Result<Raw<BackupAlgorithm>, Failure> {
    let described = json!({ "algorithm": info.algorithm, "auth_data": info.auth_data });
    Ok(Raw::new(&described).map_err(Failure::internal)?.cast_unchecked())
}

fn count(state: &BackupState) -> UInt {
    UInt::new_saturating(state.count)
}

fn raw_keys(keys: BTreeMap<String, Raw<KeyBackupData>>) -> BTreeMap<String, Box<RawValue>> {
    keys.into_iter().map(|(session, key)| (session, key.into_json())).collect()
}
