//! `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid>

use ruma::api::federation::membership::{
    RawStrippedState,
    create_knock_event::v1::{Request, Response},
};

use super::handed;
use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let given = handed(&origin, (&request.room_id, &request.event_id), &request.pdu);
    let told = app.federation.send_knock(given).await?;
    Ok(Response::new(told.into_iter().map(RawStrippedState::Pdu).collect()))
}
