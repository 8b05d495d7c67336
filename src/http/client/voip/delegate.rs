//! `POST /_matrix/client/v1/rtc/livekit/delegate_delayed_leave`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::Place;
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Wanted {
    delay_id: String,
    /// Not in the proposal any more; clients of today give it.
    #[serde(default)]
    url: Option<String>,
    #[serde(flatten)]
    place: Place,
}

/// Answers the request. Clients find out by a request without a token whether there is such an endpoint.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let rtc = app.rtc.as_ref().ok_or_else(Failure::unrecognized)?;
    let user = call.caller.clone().ok_or_else(Failure::missing_token)?.user_id;
    let wanted: Wanted = call.json()?;
    if wanted.url.as_deref().is_some_and(|url| !rtc.is_at(url)) {
        return Err(Failure::invalid_param("`url` is not the address of a LiveKit server of this server"));
    }
    rtc.delegate(&wanted.place.of(user)?, &wanted.delay_id).await?;
    Ok(Json(json!({})).into_response())
}
