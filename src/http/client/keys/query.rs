//! `POST /_matrix/client/v3/keys/query`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedServerName, api::client::keys::get_keys::v3};
use serde_json::{Value, json};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Looks up device keys and cross-signing keys.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let mut found = app.devices.query_keys(Some(&caller.user_id), &request.device_keys).await?;
    let others = (&app.peers, &app.history);
    let into = (request.timeout, &mut found);
    app.devices.query_others(others, &caller.user_id, &request.device_keys, into).await?;
    app.devices.sign_others(&caller.user_id, &mut found).await?;
    Ok(v3::Response {
        failures: failures(&found.unreachable),
        device_keys: found.device_keys,
        master_keys: found.master_keys,
        self_signing_keys: found.self_signing_keys,
        user_signing_keys: found.user_signing_keys,
    })
}

/// How servers that were not asked are told.
pub(super) fn failures(servers: &BTreeSet<OwnedServerName>) -> BTreeMap<String, Value> {
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "The server could not be reached" });
    servers.iter().map(|server| (server.to_string(), failure())).collect()
}
