//! `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>

use axum::{Json, response::IntoResponse};
use ruma::{
    api::federation::membership::create_join_event::v2::{Request, Response, RoomState},
    assign,
};

use super::{Handed, handed};
use crate::{
    federation::Joined,
    http::{App, Call, Failure, federation::Origin},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let given = handed(&origin, (&request.room_id, &request.event_id), &request.pdu);
    let joined = app.federation.send_join(given, request.omit_members).await?;
    Ok(Response::new(room_state(&joined)))
}

/// The first version of the endpoint: a pair of the number 200 and the answer.
pub(super) async fn handle_v1(app: App, call: Call) -> Result<axum::response::Response, Failure> {
    let given = Handed::read(&call)?;
    let joined = app.federation.send_join(given.as_given(), false).await?;
    Ok(Json((200, room_state(&joined))).into_response())
}

fn room_state(joined: &Joined) -> RoomState {
    let servers = joined.servers.iter().map(ToString::to_string).collect();
    assign!(RoomState::new(), {
        members_omitted: joined.members_omitted,
        state: joined.state.iter().map(|event| event.pdu.json().to_owned()).collect(),
        auth_chain: joined.auth_chain.iter().map(|event| event.pdu.json().to_owned()).collect(),
        event: Some(joined.event.clone()),
        servers_in_room: Some(servers),
    })
}
