//! Rooms, for administrators.

use http::Method;
use ruma::{OwnedRoomId, RoomId};

use super::{add, admit, answer};
use crate::http::{Call, Failure, Routes};

mod block;
mod delete;
mod delete_status;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
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

/// The room in the path.
fn room(call: &Call) -> Result<OwnedRoomId, Failure> {
    let room = call.path.first().and_then(|text| RoomId::parse(text.as_str()).ok());
    room.ok_or_else(|| Failure::invalid_param("The path names no room"))
}
