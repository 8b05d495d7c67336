//! `POST /_matrix/client/v3/keys/upload`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload>

use std::collections::BTreeMap;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{OwnedOneTimeKeyId, api::client::keys::upload_keys::v3, encryption::OneTimeKey, serde::Raw};
use serde::Deserialize;
use serde_json::json;

use crate::{
    device::KeyUpload,
    http::{App, Call, Failure, call::Given},
};

/// The paths, with the one from before version 1.1.
pub(super) const PATHS: [&str; 2] = ["/_matrix/client/v3/keys/upload", "/_matrix/client/r0/keys/upload"];

/// What ruma's type does not know: fallback keys under their name from before version 1.2.
#[derive(Default, Deserialize)]
struct Older {
    #[serde(default, rename = "org.matrix.msc2732.fallback_keys")]
    fallback_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

/// Publishes keys of the caller's device.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let older: Older = match call.body.is_empty() {
        true => Older::default(),
        // Whatever is wrong with the body is told by the ordinary decoding below.
        false => serde_json::from_slice(&call.body).unwrap_or_default(),
    };
    let Given { caller, request, .. } = call.decode::<v3::Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    let v3::Request { device_keys, one_time_keys, mut fallback_keys } = request;
    if fallback_keys.is_empty() {
        fallback_keys = older.fallback_keys;
    }
    let upload = KeyUpload { device_keys, one_time_keys, fallback_keys };
    let counts = app.devices.upload_keys(&caller.user_id, &caller.device_id, &upload).await?;
    Ok(Json(json!({ "one_time_key_counts": counts.one_time })).into_response())
}
