//! Delayed events, in the dialect of the proposal and in the one that clients speak today, which is a
//! parameter of the endpoints that send at once. Hand-written: ruma's types know neither the accepted
//! paths nor that parameter beside the others.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

mod act;
mod get;
mod list;
mod put;

use http::{Method, Uri};
use serde_json::{Map, Value, json};

use crate::{
    http::{Access, Failure, Routes},
    limits::STICKY_MS_MAX,
    room::{DelayedRow, Outcome},
};

/// Where they are listed and looked at; the second is what the proposal asks for.
const ROOTS: [(&str, &str); 2] = [
    (
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    ),
    ("/_matrix/client/v1/delayed_events", "/_matrix/client/v1/delayed_events/{delay_id}"),
];
const ACTIONS: [&str; 2] = [
    "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
    "/_matrix/client/v1/delayed_events/{delay_id}/{action}",
];
const SCHEDULES: [&str; 3] = [
    "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    "/_matrix/client/v3/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    "/_matrix/client/v1/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    for (all, one) in ROOTS {
        routes.raw(Method::GET, all, Access::Required, list::handle);
        routes.raw(Method::GET, one, Access::Required, get::handle);
        routes.raw(Method::POST, one, Access::Open, act::handle_body);
    }
    for path in ACTIONS {
        routes.raw(Method::POST, path, Access::Open, act::handle);
    }
    for path in SCHEDULES {
        routes.raw(Method::PUT, path, Access::Required, put::handle);
    }
    routes.feature("org.matrix.msc4140");
    routes.feature("org.matrix.msc4354");
}

/// How long the event of a request is to be delayed, in milliseconds, if it is.
///
/// # Errors
/// When it is not a number.
pub(in crate::http) fn delay(uri: &Uri) -> Result<Option<u64>, Failure> {
    milliseconds(uri, "org.matrix.msc4140.delay")
}

/// For how long the event of a request is to be told to those who come later, in milliseconds, if it is.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>
///
/// # Errors
/// When it is not a number.
pub(in crate::http) fn sticky(uri: &Uri) -> Result<Option<u64>, Failure> {
    let sticky_ms = milliseconds(uri, "org.matrix.msc4354.sticky_duration_ms")?;
    Ok(sticky_ms.map(|sticky_ms| sticky_ms.min(STICKY_MS_MAX)))
}

fn milliseconds(uri: &Uri, name: &str) -> Result<Option<u64>, Failure> {
    let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let Some((_, value)) = pairs.find(|(found, _)| found == name) else { return Ok(None) };
    let wrong = || Failure::invalid_param(format!("{name} is not a number of milliseconds"));
    value.parse().map(Some).map_err(|_| wrong())
}

/// What a client is told of a delayed event.
fn shown(id: &str, row: DelayedRow) -> Value {
    let mut shown = Map::new();
    let intent = row.intent;
    shown.insert("delay_id".to_owned(), json!(id));
    shown.insert("room_id".to_owned(), json!(intent.room_id));
    shown.insert("type".to_owned(), json!(intent.event_type));
    if let Some(state_key) = intent.state_key {
        shown.insert("state_key".to_owned(), json!(state_key));
    }
    shown.insert("content".to_owned(), json!(intent.content));
    for name in ["delay", "delay_ms"] {
        shown.insert(name.to_owned(), json!(intent.delay_ms));
    }
    // The second is the name in an earlier draft.
    for name in ["scheduled_at", "running_since"] {
        shown.insert(name.to_owned(), json!(row.since_ms));
    }
    if let Some(end) = row.end {
        shown.insert("finalised_ts".to_owned(), json!(end.at_ms));
        match end.outcome {
            Outcome::Sent(event_id) => drop(shown.insert("event_id".to_owned(), json!(event_id))),
            Outcome::Failed { errcode, error } => {
                shown.insert("error".to_owned(), json!({ "errcode": errcode, "error": error }));
            }
            Outcome::Cancelled => {}
        }
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests;
