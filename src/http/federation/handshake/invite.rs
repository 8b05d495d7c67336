//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::RoomVersionId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::Named;
use crate::{
    http::{App, Call, Failure},
    room::Invitation,
};

/// Written by hand because other servers leave the state out, or send `null`; ruma's type refuses both.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Body {
        room_version: RoomVersionId,
        event: Box<RawValue>,
        invite_room_state: Option<Vec<Box<RawValue>>>,
    }
    let named = Named::read(&call)?;
    let Body { room_version: version, event, invite_room_state } = call.json()?;
    let invitation = Invitation { version, event, state: invite_room_state.unwrap_or_default() };
    let signed = super::invite(&app, &named, invitation).await?;
    Ok(Json(json!({ "event": signed })).into_response())
}
