//! `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade>

use ruma::api::client::room::upgrade_room::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let Request { room_id, new_version, additional_creators, .. } = request;
    let room = app.rooms.upgrade(&caller.user_id, &room_id, new_version, &additional_creators).await?;
    Ok(Response::new(room))
}
