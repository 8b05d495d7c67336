//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId,
    api::client::room::get_event_by_timestamp::v1::{Request, Response},
};
use tokio::time::{Instant, timeout_at};

use super::scene::{Scene, direction};
use crate::{
    account::Caller,
    history::Boundary,
    http::{App, Failure},
    limits::{BACKFILLS_PER_PAGE, CLIENT_WAIT_MAX},
    log::Direction,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let (direction, ts) = (direction(request.dir), request.ts);
    let reach = (Boundary::START, scene.reach.until);
    let here = scene.viewer.event_by_time(&request.room_id, reach, (ts, direction)).await?;
    let here = here.map(|event| (event.pdu.event_id().to_owned(), event.pdu.origin_server_ts()));
    let until = Instant::now() + CLIENT_WAIT_MAX;
    let lacks_some = app.history.has_past(&request.room_id).await?;
    let elsewhere = match here.is_none() || lacks_some {
        // What is not here may be from before this server came.
        true => app.federation.event_near_elsewhere(&request.room_id, ts, direction).await,
        false => None,
    };
    let is_nearer = |found: MilliSecondsSinceUnixEpoch| match (&here, direction) {
        (None, _) => true,
        (Some((_, here)), Direction::Forward) => found >= ts && found < *here,
        (Some((_, here)), Direction::Backward) => found <= ts && found > *here,
    };
    if let Some((event_id, found)) = elsewhere.filter(|(_, found)| is_nearer(*found)) {
        let bringing = bring(&app, &mut scene, &request.room_id, &event_id);
        // Where nothing is here, whoever goes on from it may have to wait again.
        if timeout_at(until, bringing).await.unwrap_or(Ok(here.is_none()))? {
            return Ok(Response::new(event_id, found));
        }
    }
    let (event_id, ts) =
        here.ok_or_else(|| Failure::not_found("There is no event on that side of the time"))?;
    Ok(Response::new(event_id, ts))
}

/// Fills in events until one is here that another server has named, so that the client can go on from it;
/// within bounds. Whether the user may see it, as far as is known.
async fn bring(app: &App, scene: &mut Scene, room: &RoomId, id: &EventId) -> Result<bool, Failure> {
    for _ in 0..BACKFILLS_PER_PAGE {
        if app.history.event(id).await?.is_some_and(|event| event.is_shown()) {
            return Ok(scene.event(room, id).await.is_ok());
        }
        let Some((_, anchor, _)) = app.history.gaps(room).await?.into_iter().next() else { break };
        if !app.rooms.backfill(room, anchor).await? {
            break;
        }
    }
    Ok(true)
}
