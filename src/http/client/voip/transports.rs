//! `GET /_matrix/client/v1/rtc/transports`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4143>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::transports;
use crate::http::{App, Call, Failure};

/// Answers the request.
pub(super) async fn handle(app: App, _: Call) -> Result<Response, Failure> {
    Ok(Json(json!({ "rtc_transports": transports(&app.config) })).into_response())
}
