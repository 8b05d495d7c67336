//! `GET /_matrix/client/v1/media/config` and `GET /_matrix/media/v3/config`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediaconfig>

use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, _: Call) -> Result<Response, Failure> {
    Ok(axum::Json(json!({ "m.upload.size": app.media.settings().upload_bytes_max })).into_response())
}
