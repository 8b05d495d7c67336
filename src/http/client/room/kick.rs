//! `POST /_matrix/client/v3/rooms/{roomId}/kick`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick>

use ruma::api::client::membership::kick_user::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.rooms.kick(&caller.user_id, &request.room_id, &request.user_id, request.reason.as_deref()).await?;
    app.ephemeral.note_removal(&request.room_id, &request.user_id).await;
    Ok(Response::new())
}
