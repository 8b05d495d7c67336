//! `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`: the file may be seen again.

use axum::response::Response;
use serde_json::json;

use super::{address, admit, answer};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let (server, id) = address(&call)?;
    app.media.quarantine(&server, &id, false).await?;
    Ok(answer(json!({})))
}
