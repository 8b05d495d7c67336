//! `GET /_matrix/client/v1/rooms/{roomId}/thread/{eventId}/subscription`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::thread;
use crate::http::{App, Call, Failure};

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let (room, root) = thread(&call)?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let found = app.ephemeral.subscription(&caller.user_id, (&room, &root)).await?;
    match found.filter(|found| found.subscribed) {
        Some(found) => Ok(Json(json!({ "automatic": found.automatic })).into_response()),
        None => Err(Failure::not_found("You are not subscribed to the thread")),
    }
}
