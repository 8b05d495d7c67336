//! `GET /_matrix/federation/v1/state/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>

use ruma::api::federation::event::get_room_state::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let (pdus, auth_chain) = app.federation.state(&origin, &request.room_id, &request.event_id).await?;
    Ok(Response::new(auth_chain, pdus))
}
