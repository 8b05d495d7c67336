//! `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias>

use ruma::api::client::alias::delete_alias::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.rooms.delete_alias(&caller.user_id, &request.room_alias).await?;
    Ok(Response::new())
}
