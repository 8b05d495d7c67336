//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{
    OwnedRoomId,
    api::{Metadata, client::typing::create_typing_event::v3::Request, path_builder::PathBuilder},
};
use serde::Deserialize;
use serde_json::json;

use crate::http::{Access, App, Call, Failure, Routes};

/// The body.
#[derive(Deserialize)]
struct Body {
    typing: bool,
    timeout: Option<u64>,
}

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in Request::PATH_BUILDER.all_paths() {
        routes.raw(Request::METHOD, path, Access::Required, handle);
    }
}

/// Answers the request. By hand, because ruma wants a time of those who type.
async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Body { typing, timeout } = call.json()?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let [room, user] = &call.path[..] else { return Err(Failure::unrecognized()) };
    if *user != caller.user_id.as_str() {
        return Err(Failure::forbidden("Nobody types for somebody else"));
    }
    let room = OwnedRoomId::try_from(room.as_str())
        .map_err(|_| Failure::invalid_param("The path does not name a room"))?;
    app.ephemeral.set_typing(&room, &caller.user_id, typing.then_some(timeout)).await?;
    Ok(Json(json!({})).into_response())
}
