//! `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}`, and of a room
//! `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}`
//!
//! Devices that sync are told of an empty content.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3391>

use axum::response::{IntoResponse, Response};
use http::Method;
use ruma::{RoomId, UserId};
use serde_json::json;

use crate::http::{Access, App, Call, Failure, Routes};

const GLOBAL: &str = "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}";
const ROOM: &str =
    "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}";

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::DELETE, GLOBAL, Access::Required, handle);
    routes.raw(Method::DELETE, ROOM, Access::Required, handle);
    routes.feature("org.matrix.msc3391");
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let (user, room, event_type) = match &call.path[..] {
        [user, event_type] => (user, None, event_type),
        [user, room, event_type] => (user, Some(room), event_type),
        _ => return Err(Failure::unrecognized()),
    };
    let user = <&UserId>::try_from(user.as_str()).map_err(|_| Failure::invalid_param("Not a user id"))?;
    super::own(&caller, user)?;
    let room = room.map(|room| <&RoomId>::try_from(room.as_str())).transpose();
    let room = room.map_err(|_| Failure::invalid_param("Not a room id"))?;
    app.accounts.remove_data(user, room, event_type).await?;
    Ok(axum::Json(json!({})).into_response())
}
