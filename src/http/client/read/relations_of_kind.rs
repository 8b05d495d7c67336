//! `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidrelationseventidreltype>

use ruma::{
    api::client::relations::get_relating_events_with_rel_type::v1::{Request, Response},
    assign,
};

use super::relations::{Answer, Question, find};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let question = Question {
        room_id: request.room_id,
        event_id: request.event_id,
        rel_type: Some(request.rel_type.to_string()),
        event_type: None,
        from: request.from,
        to: request.to,
        direction: request.dir,
        limit: request.limit,
        recurse: request.recurse,
    };
    let Answer { chunk, next_batch, prev_batch, recursion_depth } = find(app, caller, question).await?;
    Ok(assign!(Response::new(chunk), { next_batch, prev_batch, recursion_depth }))
}
