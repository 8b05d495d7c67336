//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use ruma::api::client::room::get_event_by_timestamp::v1::{Request, Response};

use super::scene::{Scene, direction};
use crate::{
    account::Caller,
    http::{App, Failure},
    log::Direction,
    types::Position,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let (direction, ts) = (direction(request.dir), request.ts);
    let from = match direction {
        Direction::Forward => scene.start(None, direction)?,
        Direction::Backward => scene.stop(None, direction)?.unwrap_or(Position::ZERO),
    };
    let reach = (from, scene.reach.until);
    if let Some(event) = scene.viewer.event_by_time(&request.room_id, reach, (ts, direction)).await? {
        return Ok(Response::new(event.pdu.event_id().to_owned(), event.pdu.origin_server_ts()));
    }
    // What is not here may be from before this server came.
    let found = app.federation.event_near_elsewhere(&request.room_id, ts, direction).await;
    let (event_id, ts) =
        found.ok_or_else(|| Failure::not_found("There is no event on that side of the time"))?;
    Ok(Response::new(event_id, ts))
}
