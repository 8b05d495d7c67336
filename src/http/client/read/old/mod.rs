//! What clients asked for before there was `/sync`: the same pages and the same history, in other shapes. Deprecated,
//! and unknown to ruma.

use http::Method;
use serde_json::Value;

use crate::http::{Access, Routes};

mod event;
mod events;
mod initial_sync;
mod room_initial_sync;

#[cfg(test)]
mod tests;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    for path in ["/_matrix/client/r0/events", "/_matrix/client/v3/events"] {
        routes.raw(Method::GET, path, Access::Required, events::handle);
    }
    for path in ["/_matrix/client/r0/events/{event_id}", "/_matrix/client/v3/events/{event_id}"] {
        routes.raw(Method::GET, path, Access::Required, event::handle);
    }
    for path in ["/_matrix/client/r0/initialSync", "/_matrix/client/v3/initialSync"] {
        routes.raw(Method::GET, path, Access::Required, initial_sync::handle);
    }
    for path in
        ["/_matrix/client/r0/rooms/{room_id}/initialSync", "/_matrix/client/v3/rooms/{room_id}/initialSync"]
    {
        routes.raw(Method::GET, path, Access::Required, room_initial_sync::handle);
    }
}

/// Takes the events out of a part of a sync's answer; each is told of which room it is, which a sync leaves out.
fn take_events(part: &mut Value, room: Option<&str>) -> Vec<Value> {
    let Value::Array(mut events) = part["events"].take() else { return Vec::new() };
    for event in &mut events {
        if let (Some(room), Some(event)) = (room, event.as_object_mut()) {
            event.insert("room_id".to_owned(), room.into());
        }
    }
    events
}

/// Takes the rooms of one kind out of a sync's answer.
fn take_rooms(page: &mut Value, kind: &str) -> serde_json::Map<String, Value> {
    match page.get_mut("rooms").and_then(|rooms| rooms.get_mut(kind)).map(Value::take) {
        Some(Value::Object(rooms)) => rooms,
        _ => serde_json::Map::new(),
    }
}
