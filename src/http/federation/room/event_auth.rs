//! `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>

use ruma::api::federation::authorization::get_event_authorization::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    Ok(Response::new(app.federation.event_auth(&origin, &request.room_id, &request.event_id).await?))
}
