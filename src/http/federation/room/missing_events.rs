//! `POST /_matrix/federation/v1/get_missing_events/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>

use ruma::api::federation::event::get_missing_events::v1::{Request, Response};

use crate::{
    federation::Between,
    http::{App, Failure, federation::Origin},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let between = Between {
        earliest: request.earliest_events,
        latest: request.latest_events,
        limit: usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX),
        min_depth: request.min_depth.into(),
    };
    Ok(Response::new(app.federation.missing_events(&origin, &request.room_id, between).await?))
}
