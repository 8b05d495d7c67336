//! `GET /_matrix/federation/v1/state_ids/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>

use ruma::api::federation::event::get_room_state_ids::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let (pdus, auth_chain) = app.federation.state_ids(&origin, &request.room_id, &request.event_id).await?;
    Ok(Response::new(auth_chain, pdus))
}
