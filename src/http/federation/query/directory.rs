//! `GET /_matrix/federation/v1/query/directory`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>

use ruma::api::federation::query::get_room_information::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin, meet_alias};

pub(super) async fn handle(app: App, _: Origin, request: Request) -> Result<Response, Failure> {
    meet_alias(&app, &request.room_alias).await?;
    let (room, servers) = app.federation.alias(&request.room_alias).await?;
    Ok(Response::new(room, servers))
}
