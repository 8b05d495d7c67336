//! `PUT /_matrix/client/v3/directory/room/{roomAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias>

use http::StatusCode;
use ruma::api::{
    client::alias::create_alias::v3::{Request, Response},
    error::ErrorKind,
};

use crate::{
    account::Caller,
    http::{App, Failure, Peer},
    room::RoomError,
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    if app.appservices.keeps_alias(&request.room_alias, peer.appservice.as_deref()) {
        return Err(Failure::exclusive());
    }
    match app.rooms.put_alias(&caller.user_id, &request.room_alias, &request.room_id).await {
        Ok(()) => Ok(Response::new()),
        // Unlike the creation of a room, this endpoint answers 409.
        Err(error @ RoomError::AliasInUse) => {
            Err(Failure::new(StatusCode::CONFLICT, ErrorKind::Unknown, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
