//! `PUT /_matrix/client/v3/directory/list/room/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid>

use ruma::api::client::{
    directory::set_room_visibility::v3::{Request, Response},
    room::Visibility,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let is_public = match request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(Failure::invalid_param("A room is public or private")),
    };
    app.rooms.publish(&caller.user_id, &request.room_id, is_public).await?;
    Ok(Response::new())
}
