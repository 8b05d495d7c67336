//! `GET /_matrix/client/v3/directory/room/{roomAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias>

use ruma::api::client::alias::get_alias::v3::{Request, Response};

use crate::http::{App, Failure, meet_alias};

/// Answers the request.
pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    meet_alias(&app, &request.room_alias).await?;
    let (room, servers) = app.rooms.alias(&request.room_alias).await?;
    Ok(Response::new(room, servers))
}
