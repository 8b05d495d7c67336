//! `DELETE /_matrix/client/v1/rooms/{roomId}/thread/{eventId}/subscription`
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
    app.ephemeral.unsubscribe(&caller.user_id, (&room, &root)).await?;
    Ok(Json(json!({})).into_response())
}
