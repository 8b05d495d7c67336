//! `GET /_matrix/client/v3/rooms/{roomId}/aliases`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases>

use ruma::api::client::room::aliases::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let aliases = app.rooms.list_aliases(&caller.user_id, &request.room_id).await?;
    Ok(Response::new(aliases))
}
