//! `DELETE /_synapse/admin/v1/media/{serverName}/{mediaId}`: the file goes, with its thumbnails.

use axum::response::Response;
use serde_json::json;

use super::{address, admit, answer};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let (server, id) = address(&call)?;
    match app.media.delete(&server, &id).await? {
        true => Ok(answer(json!({ "deleted_media": [id], "total": 1 }))),
        false => Err(Failure::not_found("There is no such file")),
    }
}
