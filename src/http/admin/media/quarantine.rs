//! `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`: nobody gets the file any more.

use axum::response::Response;
use serde_json::json;

use super::{address, admit, answer};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let (server, id) = address(&call)?;
    app.media.quarantine(&server, &id, true).await?;
    Ok(answer(json!({})))
}
