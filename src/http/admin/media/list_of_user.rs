//! `GET /_synapse/admin/v1/users/{userId}/media`: what a user has uploaded, oldest first.

use axum::{extract::Query, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Page {
    from: Option<u64>,
    limit: Option<usize>,
}

/// Files in one answer when nothing is said.
const USUAL: usize = 100;

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let page = Query::<Page>::try_from_uri(&call.parts.uri);
    let Query(Page { from, limit }) = page.map_err(|error| Failure::invalid_param(error.to_string()))?;
    let user = user(&app, &call)?;
    let (_, total) = app.media.usage(&user).await?;
    let files = app.media.uploads_of(&user, from.unwrap_or_default(), limit.unwrap_or(USUAL)).await?;
    let next = files.last().map(|file| file.uploaded_ms + 1);
    let media: Vec<Value> = files
        .into_iter()
        .map(|file| {
            json!({
                "media_id": file.id,
                "media_length": file.size,
                "media_type": file.content_type,
                "upload_name": file.filename,
                "created_ts": file.uploaded_ms,
                "last_access_ts": file.seen_ms,
                "quarantined_by": file.is_quarantined.then_some("an administrator"),
            })
        })
        .collect();
    Ok(answer(json!({ "media": media, "total": total, "next_token": next })))
}
