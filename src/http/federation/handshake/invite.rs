//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>

use ruma::api::federation::membership::create_invite::v2::{Request, Response};

use super::raw;
use crate::{
    http::{App, Failure, federation::Origin},
    room::{Invitation, text_of},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let Request { room_id, event_id, room_version, event, invite_room_state, .. } = request;
    let state = invite_room_state.iter().map(text_of).collect();
    let invitation = Invitation { version: room_version, event, state };
    let signed = app.federation.invite(&origin, (&room_id, &event_id), invitation).await?;
    Ok(Response::new(raw(&signed)?))
}
