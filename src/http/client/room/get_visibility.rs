//! `GET /_matrix/client/v3/directory/list/room/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid>

use ruma::api::client::{
    directory::get_room_visibility::v3::{Request, Response},
    room::Visibility,
};

use crate::http::{App, Failure};

/// Answers the request.
pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    if history.room(&request.room_id).await?.is_none() {
        return Err(Failure::not_found("This server does not know the room"));
    }
    Ok(Response::new(match history.published(&request.room_id).await? {
        Some(_) => Visibility::Public,
        None => Visibility::Private,
    }))
}
