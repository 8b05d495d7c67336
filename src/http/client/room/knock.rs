//! `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias>

use ruma::api::client::knock::knock_room::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let (room, via) = app.rooms.find(&request.room_id_or_alias, &request.via).await?;
    app.rooms.call_at(&caller.user_id, &room, &via, request.reason.as_deref()).await?;
    Ok(Response::new(room))
}
