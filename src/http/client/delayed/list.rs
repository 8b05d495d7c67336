//! `GET /_matrix/client/v1/delayed_events`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::shown;
use crate::http::{App, Call, Failure};

/// Answers the request: those that wait, which are at most
/// [`DELAYED_EVENTS_PER_USER_MAX`](crate::limits::DELAYED_EVENTS_PER_USER_MAX).
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let found = app.delayed.of(&caller.user_id).await?;
    let found: Vec<Value> = found.into_iter().map(|(id, row)| shown(&id, row)).collect();
    Ok(Json(json!({ "delayed_events": found })).into_response())
}
