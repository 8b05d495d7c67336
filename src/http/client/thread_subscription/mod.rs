//! Thread subscriptions. Hand-written: ruma has them behind a feature, and under one path only.

use http::Method;
use ruma::{OwnedEventId, OwnedRoomId};

use crate::http::{Access, Call, Failure, Routes};

mod delete;
mod get;
mod list;
mod put;

/// The subscription of a thread; the second is what the proposal asks for.
const PATHS: [&str; 2] = [
    "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
    "/_matrix/client/v1/rooms/{roomId}/thread/{eventId}/subscription",
];
/// All subscriptions.
const LISTS: [&str; 2] = [
    "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
    "/_matrix/client/v1/thread_subscriptions",
];

/// Says that threads are subscribed to, which is so if the setting wants it. The endpoints are there all the same.
pub(in crate::http) const FEATURE: &str = "org.matrix.msc4306";

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.feature(FEATURE);
    for path in PATHS {
        routes.raw(Method::GET, path, Access::Required, get::handle);
        routes.raw(Method::PUT, path, Access::Required, put::handle);
        routes.raw(Method::DELETE, path, Access::Required, delete::handle);
    }
    for path in LISTS {
        routes.raw(Method::GET, path, Access::Required, list::handle);
    }
}

/// Room and root of the thread that a path names.
fn thread(call: &Call) -> Result<(OwnedRoomId, OwnedEventId), Failure> {
    let [room, root] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let room = OwnedRoomId::try_from(room.as_str());
    let root = OwnedEventId::try_from(root.as_str());
    match (room, root) {
        (Ok(room), Ok(root)) => Ok((room, root)),
        _ => Err(Failure::invalid_param("The path does not name a room and an event")),
    }
}

#[cfg(test)]
mod tests;
