//! `GET /_synapse/admin/v1/event_reports`, `…/user_reports` and their like: reports, the newest first.

use axum::{extract::Query, response::Response};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{LISTS, admit, answer, told};
use crate::{
    http::{App, Call, Failure},
    limits::REPORTS_PAGE_MAX,
    report::Wanted,
};

#[derive(Deserialize)]
struct Asked {
    from: Option<usize>,
    limit: Option<usize>,
    dir: Option<String>,
    room_id: Option<OwnedRoomId>,
    /// Who reports.
    user_id: Option<OwnedUserId>,
    event_sender_user_id: Option<OwnedUserId>,
    target_user_id: Option<OwnedUserId>,
}

/// Reports in one answer when nothing is said.
const USUAL: usize = 100;

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let path = call.parts.uri.path();
    let asked = Query::<Asked>::try_from_uri(&call.parts.uri);
    let Query(asked) = asked.map_err(|error| Failure::invalid_param(error.to_string()))?;
    let list = LISTS.iter().find(|(list, _)| *list == path);
    let wanted = Wanted {
        kind: list.and_then(|(_, kind)| *kind),
        room: asked.room_id,
        reporter: asked.user_id,
        about: asked.event_sender_user_id.or(asked.target_user_id),
        oldest_first: asked.dir.as_deref() == Some("f"),
    };
    let from = asked.from.unwrap_or_default();
    let limit = asked.limit.unwrap_or(USUAL).min(REPORTS_PAGE_MAX);
    let (found, total) = app.reports.list(&wanted, (from, limit)).await?;
    let next = from.saturating_add(found.len());
    let found: Vec<Value> = found.iter().map(|(number, report)| told(*number, report)).collect();
    let name = path.rsplit('/').next().unwrap_or("reports");
    let mut body = json!({ name: found, "total": total });
    if next < total {
        body["next_token"] = next.into();
    }
    Ok(answer(body))
}
