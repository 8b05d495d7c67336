//! `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias>

use ruma::api::client::alias::delete_alias::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure, Peer},
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
    app.rooms.delete_alias(&caller.user_id, &request.room_alias).await?;
    Ok(Response::new())
}
