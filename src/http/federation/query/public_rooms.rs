//! `GET /_matrix/federation/v1/publicRooms`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms>

use ruma::{
    api::federation::directory::get_public_rooms::v1::{Request, Response},
    assign,
    directory::{Filter, RoomNetwork},
};

use crate::http::{
    App, Failure,
    client::read::public_rooms::{Question, list},
    federation::Origin,
};

pub(super) async fn handle(app: App, _: Origin, request: Request) -> Result<Response, Failure> {
    let Request { limit, since, .. } = request;
    let answer = list(
        &app,
        Question { server: None, network: RoomNetwork::Matrix, limit, since, filter: Filter::new() },
    )
    .await?;
    Ok(assign!(Response::new(), {
        chunk: answer.chunk,
        next_batch: answer.next_batch,
        prev_batch: answer.prev_batch,
        total_room_count_estimate: Some(answer.total),
    }))
}
