//! `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::RoomVersionId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::Handed;
use crate::{
    http::{App, Call, Failure},
    room::Invitation,
};

/// Serves the event format of the first two room versions only; ruma's type leaves out most of the event.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        unsigned: Unsigned,
    }
    #[derive(Default, Deserialize)]
    struct Unsigned {
        invite_room_state: Option<Vec<Box<RawValue>>>,
    }
    let body: Body = call.json()?;
    let version = RoomVersionId::V1;
    let state = body.unsigned.invite_room_state.unwrap_or_default();
    let Handed { named, pdu: event } = Handed::read(&call)?;
    let invitation = Invitation { version, event, state };
    let signed = super::invite(&app, &named, invitation).await?;
    Ok(Json(json!([200, { "event": signed }])).into_response())
}
