//! `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>

use ruma::api::{
    Direction as Wanted,
    federation::event::get_event_by_timestamp::v1::{Request, Response},
};

use crate::{
    http::{App, Failure, federation::Origin},
    log::Direction,
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let direction = match request.dir {
        Wanted::Forward => Direction::Forward,
        Wanted::Backward => Direction::Backward,
    };
    let near = app.federation.event_near(&origin, &request.room_id, (request.ts, direction)).await?;
    let (event_id, origin_server_ts) = near;
    Ok(Response::new(event_id, origin_server_ts))
}
