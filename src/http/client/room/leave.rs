//! `POST /_matrix/client/v3/rooms/{roomId}/leave`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave>

use ruma::api::client::membership::leave_room::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.notices.check_leave(&caller.user_id, &request.room_id).await?;
    app.rooms.leave(&caller.user_id, &request.room_id, request.reason.as_deref()).await?;
    app.ephemeral.note_leave(&request.room_id, &caller.user_id).await;
    Ok(Response::new())
}
