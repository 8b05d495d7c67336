//! Rooms, for administrators.

use http::Method;
use ruma::{OwnedRoomId, RoomId, RoomOrAliasId};

use super::{add, admit, answer};
use crate::http::{App, Call, Failure, Routes};

mod block;
mod delete;
mod delete_status;
mod details;
mod explain;
mod join;
mod list;
mod make_admin;
mod members;
mod state;

#[cfg(test)]
mod tests;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::GET, "/_synapse/admin/v1/rooms", |app, call| Box::pin(list::handle(app, call)));
    add(routes, Method::GET, "/_synapse/admin/v1/rooms/{room_id}", |app, call| {
        Box::pin(details::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/rooms/{room_id}/members", |app, call| {
        Box::pin(members::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/rooms/{room_id}/state", |app, call| {
        Box::pin(state::handle(app, call))
    });
    add(routes, Method::GET, "/_lockstep/admin/v1/rooms/{room_id}/explain", |app, call| {
        Box::pin(explain::handle(app, call))
    });
    add(routes, Method::POST, "/_synapse/admin/v1/rooms/{room_id}/make_room_admin", |app, call| {
        Box::pin(make_admin::handle(app, call))
    });
    add(routes, Method::POST, "/_synapse/admin/v1/join/{room_id}", |app, call| {
        Box::pin(join::handle(app, call))
    });
    add(routes, Method::DELETE, "/_synapse/admin/v2/rooms/{room_id}", |app, call| {
        Box::pin(delete::handle(app, call))
    });
    add(routes, Method::DELETE, "/_synapse/admin/v1/rooms/{room_id}", |app, call| {
        Box::pin(delete::handle_old(app, call))
    });
    for method in [Method::GET, Method::PUT] {
        add(routes, method, "/_synapse/admin/v1/rooms/{room_id}/block", |app, call| {
            Box::pin(block::handle(app, call))
        });
    }
    for path in [
        "/_synapse/admin/v2/rooms/delete_status/{delete_id}",
        "/_synapse/admin/v2/rooms/{room_id}/delete_status",
    ] {
        add(routes, Method::GET, path, |app, call| Box::pin(delete_status::handle(app, call)));
    }
}

/// The room that the path names, by its id or by an alias.
async fn named(app: &App, call: &Call) -> Result<OwnedRoomId, Failure> {
    let text = call.path.first().map(String::as_str).unwrap_or_default();
    let named = <&RoomOrAliasId>::try_from(text);
    let named = named.map_err(|_| Failure::invalid_param("The path names no room"))?;
    Ok(app.rooms.find(named, &[]).await?.0)
}

/// The room in the path.
fn room(call: &Call) -> Result<OwnedRoomId, Failure> {
    let room = call.path.first().and_then(|text| RoomId::parse(text.as_str()).ok());
    room.ok_or_else(|| Failure::invalid_param("The path names no room"))
}
