//! `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events`, and `POST`,
//! which it was before.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use axum::{
    Json,
    extract::Query,
    response::{IntoResponse, Response},
};
use ruma::{api::client::dehydrated_device::get_events::unstable, serde::Raw};
use serde::Deserialize;
use serde_json::json;

use crate::{
    account::Caller,
    http::{App, Call, Failure},
};

/// The path of both.
pub(super) const PATH: &str =
    "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events";

#[derive(Deserialize)]
struct Parameters {
    next_batch: Option<String>,
}

/// Reads messages of the caller's dehydrated device, with the token in the query.
pub(super) async fn handle_get(app: App, call: Call) -> Result<Response, Failure> {
    let Query(Parameters { next_batch }) =
        Query::try_from_uri(&call.parts.uri).map_err(|error| Failure::invalid_param(error.to_string()))?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let device = call.path.first().map(String::as_str).unwrap_or_default();
    let (events, next_batch) =
        app.devices.dehydrated_events(&caller.user_id, device.into(), next_batch.as_deref()).await?;
    Ok(Json(json!({ "events": events, "next_batch": next_batch })).into_response())
}

/// Reads messages of the caller's dehydrated device, with the token in the body.
pub(super) async fn handle_post(
    app: App,
    caller: Caller,
    request: unstable::Request,
) -> Result<unstable::Response, Failure> {
    let next_batch = request.next_batch.as_deref();
    let (events, next_batch) =
        app.devices.dehydrated_events(&caller.user_id, &request.device_id, next_batch).await?;
    let events = events.iter().map(|event| Ok(Raw::new(event)?.cast_unchecked()));
    let events = events.collect::<Result<_, serde_json::Error>>().map_err(Failure::internal)?;
    Ok(unstable::Response { next_batch: Some(next_batch), events })
}
