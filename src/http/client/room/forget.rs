//! `POST /_matrix/client/v3/rooms/{roomId}/forget`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget>

use ruma::api::client::membership::forget_room::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.rooms.forget(&caller.user_id, &request.room_id).await?;
    Ok(Response::new())
}
