//! `POST /_synapse/admin/v1/purge_media_cache?before_ts={ts}`: files of other servers go that nobody has looked at since.

use axum::{extract::Query, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Before {
    before_ts: u64,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let before = Query::<Before>::try_from_uri(&call.parts.uri);
    let Query(Before { before_ts }) = before.map_err(|error| Failure::missing_param(error.to_string()))?;
    let deleted = app.media.purge_cache(before_ts).await?;
    Ok(answer(json!({ "deleted": deleted })))
}
