//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use ruma::api::client::state::send_state_event::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure, Peer},
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    let Request { room_id, event_type, state_key, body, timestamp, .. } = request;
    let rooms = app.rooms.dated(timestamp.filter(|_| peer.appservice.is_some()));
    let place = (&event_type, state_key.as_str());
    let event_id = rooms.set_state(&caller.user_id, &room_id, place, body.into_json()).await?;
    Ok(Response::new(event_id))
}
