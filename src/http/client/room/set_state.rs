//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{UserId, api::client::state::send_state_event::v3::Request, events::StateEventType};
use serde_json::json;

use crate::{
    http::{App, Call, Failure, call::Given, client::delayed},
    room::Intent,
    types::Membership,
};

/// Answers the request. By hand, because clients may want the event to be sent later.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let delay_ms = delayed::delay(&call.parts.uri)?;
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    let Given { peer, request, .. } = call.decode::<Request>()?;
    let Request { room_id, event_type, state_key, body, timestamp, .. } = request;
    let content = body.into_json();
    if let Some(delay_ms) = delay_ms {
        let (event_type, state_key) = (event_type.to_string(), Some(state_key));
        let intent = Intent { room_id, event_type, state_key, content, delay_ms, sticky_ms: None };
        let delay_id = app.delayed.schedule(&caller.user_id, intent, None).await?;
        return Ok(Json(json!({ "delay_id": delay_id })).into_response());
    }
    let rooms = app.rooms.dated(timestamp.filter(|_| peer.appservice.is_some()));
    let place = (&event_type, state_key.as_str());
    let event_id = rooms.set_state(&caller.user_id, &room_id, place, content).await?;
    if event_type == StateEventType::RoomMember
        && let Ok(user) = <&UserId>::try_from(state_key.as_str())
        && app.history.membership(&room_id, user).await? != Some(Membership::Join)
    {
        app.ephemeral.note_removal(&room_id, user).await;
    }
    Ok(Json(json!({ "event_id": event_id })).into_response())
}
