//! `POST /_matrix/livekit/webhook`: what the LiveKit server says of calls. No client calls it; it lies under `/_matrix/`
//! so that it is reached through whatever stands before this server.
//!
//! <https://docs.livekit.io/intro/basics/rooms-participants-tracks/webhooks-events/>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::header;
use serde_json::json;

use crate::http::{App, Call, Failure};

pub(super) const PATH: &str = "/_matrix/livekit/webhook";

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let rtc = app.rtc.as_ref().ok_or_else(Failure::unrecognized)?;
    let token = call.parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    // LiveKit gives the token as it is.
    let token = token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token));
    rtc.heard(token.ok_or_else(Failure::missing_token)?, &call.body).await?;
    Ok(Json(json!({})).into_response())
}
