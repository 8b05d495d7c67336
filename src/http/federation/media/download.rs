//! `GET /_matrix/federation/v1/media/download/{mediaId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>

use axum::response::Response;

use super::{send, wanted};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let file = app.media.find(wanted(&app, &call)?).await?;
    send(&app, &file).await
}
