//! `PUT /_matrix/client/v1/rooms/{roomId}/thread/{eventId}/subscription`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::json;

use super::thread;
use crate::http::{App, Call, Failure};

/// The body.
#[derive(Debug, Deserialize)]
struct Body {
    /// The event of the thread for which a client subscribes by itself.
    automatic: Option<OwnedEventId>,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let (room, root) = thread(&call)?;
    let body: Body = call.json()?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    app.ephemeral.subscribe(&caller.user_id, (&room, &root), body.automatic.as_deref()).await?;
    Ok(Json(json!({})).into_response())
}
