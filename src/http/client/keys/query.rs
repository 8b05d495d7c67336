//! `POST /_matrix/client/v3/keys/query`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery>

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId,
    api::client::keys::get_keys::v3,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::{App, Call, Failure, bridged, call::Given};

type CrossSigningKeys = BTreeMap<OwnedUserId, Raw<CrossSigningKey>>;

/// The answer. Not ruma's, because that leaves out what is empty, and clients look for it.
#[derive(Serialize)]
struct Answer {
    failures: BTreeMap<String, Value>,
    device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
    master_keys: CrossSigningKeys,
    self_signing_keys: CrossSigningKeys,
    user_signing_keys: CrossSigningKeys,
}

/// Looks up device keys and cross-signing keys.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { caller, request, .. } = call.decode::<v3::Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    let mut found = app.devices.query_keys(Some(&caller.user_id), &request.device_keys).await?;
    bridged::query(&app, Some(&caller.user_id), (&request.device_keys, &mut found)).await?;
    let others = (&app.peers, &app.history);
    let into = (request.timeout, &mut found);
    app.devices.query_others(others, &caller.user_id, &request.device_keys, into).await?;
    app.devices.sign_others(&caller.user_id, &mut found).await?;
    let answer = Answer {
        failures: failures(&found.unreachable),
        device_keys: found.device_keys,
        master_keys: found.master_keys,
        self_signing_keys: found.self_signing_keys,
        user_signing_keys: found.user_signing_keys,
    };
    Ok(Json(answer).into_response())
}

/// How servers that were not asked are told.
pub(super) fn failures(servers: &BTreeSet<OwnedServerName>) -> BTreeMap<String, Value> {
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "The server could not be reached" });
    servers.iter().map(|server| (server.to_string(), failure())).collect()
}
