//! `GET /_synapse/admin/v1/rooms`: the rooms that this server knows.

use std::cmp::Reverse;

use axum::{extract::Query, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{admit, answer, details::details};
use crate::{
    http::{App, Call, Failure},
    limits::SCAN_ROWS_MAX,
};

/// Which rooms are asked for.
#[derive(Deserialize)]
struct Asked {
    /// How many to leave out.
    from: Option<usize>,
    limit: Option<usize>,
    /// A part of the name, the canonical alias or the id.
    search_term: Option<String>,
    /// `name`, `joined_members` or `joined_local_members`; else the order of the ids.
    order_by: Option<String>,
    /// `b` for the other way round.
    dir: Option<String>,
}

/// Rooms in one answer when nothing is said.
const USUAL: usize = 100;

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked = Query::<Asked>::try_from_uri(&call.parts.uri);
    let Query(asked) = asked.map_err(|error| Failure::invalid_param(error.body_text()))?;
    let mut rooms = Vec::new();
    for room in app.history.rooms().await? {
        rooms.extend(details(&app, &room).await?.filter(|room| is_wanted(&asked, room)));
    }
    match asked.order_by.as_deref() {
        Some(field @ ("joined_members" | "joined_local_members")) => {
            rooms.sort_by_key(|room| Reverse(room[field].as_u64()));
        }
        Some("name") | None => rooms.sort_by_key(|room| room["name"].as_str().map(str::to_lowercase)),
        Some(_) => {}
    }
    if asked.dir.as_deref() == Some("b") {
        rooms.reverse();
    }
    let (from, limit) =
        (asked.from.unwrap_or_default(), asked.limit.unwrap_or(USUAL).clamp(1, SCAN_ROWS_MAX));
    let total = rooms.len();
    let page: Vec<Value> = rooms.into_iter().skip(from).take(limit).collect();
    let mut told = json!({ "rooms": page, "offset": from, "total_rooms": total });
    if from + limit < total {
        told["next_batch"] = (from + limit).into();
    }
    if from > 0 {
        told["prev_batch"] = from.saturating_sub(limit).into();
    }
    Ok(answer(told))
}

fn is_wanted(asked: &Asked, room: &Value) -> bool {
    let Some(term) = asked.search_term.as_deref() else { return true };
    let has = |field: &str| {
        room[field].as_str().is_some_and(|text| text.to_lowercase().contains(&term.to_lowercase()))
    };
    has("name") || has("canonical_alias") || has("room_id")
}
