//! `GET /_matrix/client/v1/delayed_events/{delayId}`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use axum::{
    Json,
    response::{IntoResponse, Response},
};

use super::shown;
use crate::http::{App, Call, Failure};

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let [id] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let row = app.delayed.get(&caller.user_id, id).await?;
    Ok(Json(shown(id, row)).into_response())
}
