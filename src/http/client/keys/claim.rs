//! `POST /_matrix/client/v3/keys/claim`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::api::client::keys::claim_keys::v3;
use serde_json::json;

use super::query::failures;
use crate::http::{App, Call, Failure, bridged, call::Given};

/// Gives out one-time keys. By hand, because ruma leaves `failures` out when there are none, and clients look for it.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { request, .. } = call.decode::<v3::Request>()?;
    let mut claimed = bridged::claim(&app, &request.one_time_keys).await?;
    let asked = (request.timeout, &mut claimed);
    app.devices.claim_from_others(&app.peers, &request.one_time_keys, asked).await;
    let answer = json!({ "failures": failures(&claimed.unreachable), "one_time_keys": claimed.keys });
    Ok(Json(answer).into_response())
}
