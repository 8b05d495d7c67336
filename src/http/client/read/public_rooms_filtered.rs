//! `POST /_matrix/client/v3/publicRooms`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms>

use ruma::{
    api::client::directory::get_public_rooms_filtered::v3::{Request, Response},
    assign,
};

use super::public_rooms::{Question, list};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, _caller: Caller, request: Request) -> Result<Response, Failure> {
    let Request { server, limit, since, filter, .. } = request;
    let answer = list(&app, Question { server, limit, since, filter }).await?;
    Ok(assign!(Response::new(), {
        chunk: answer.chunk,
        next_batch: answer.next_batch,
        prev_batch: answer.prev_batch,
        total_room_count_estimate: Some(answer.total),
    }))
}
