//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{RoomId, UserId, api::client::state::send_state_event::v3::Request, events::StateEventType};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    account::Caller,
    http::{App, Call, Class, Failure, Peer, call::Given, client::delayed, meet_users},
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
    if event_type == StateEventType::RoomMember {
        admit_member(&app, (&caller, &peer), (&room_id, &state_key), &content).await?;
    }
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

/// Asks of a membership what its own endpoint asks.
pub(in crate::http::client) async fn admit_member(
    app: &App,
    (caller, peer): (&Caller, &Peer),
    (room, state_key): (&RoomId, &str),
    content: &RawValue,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let (Ok(content), Ok(user)) =
        (serde_json::from_str::<Content>(content.get()), <&UserId>::try_from(state_key))
    else {
        return Ok(());
    };
    let limited = |class| app.throttle.admit(class, Some(caller), peer);
    match (Membership::parse(&content.membership), *user == caller.user_id) {
        (Some(Membership::Join), true) if !app.history.is_joined(room, user).await? => limited(Class::Join),
        (Some(Membership::Knock), true) => limited(Class::Join),
        (Some(Membership::Leave), true) => Ok(app.notices.check_leave(user, room).await?),
        (Some(Membership::Invite), false) => {
            limited(Class::Invite)?;
            meet_users(app, &[user.to_owned()]).await
        }
        _ => Ok(()),
    }
}
