//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{
    OwnedEventId, OwnedRoomId, api::client::message::send_message_event::v3::Request,
    events::MessageLikeEventType,
};
use serde_json::json;

use crate::{
    account::Caller,
    http::{App, Call, Failure, Peer, call::Given, client::delayed, standing},
    room::{Intent, Message, Txn},
};

/// Answers the request. By hand, because clients may want the event to be sent later.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let delay_ms = delayed::delay(&call.parts.uri)?;
    let sticky_ms = delayed::sticky(&call.parts.uri)?;
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    match delay_ms {
        Some(delay_ms) => later(app, caller, (call, delay_ms, sticky_ms)).await,
        None => {
            let Given { peer, request, .. } = call.decode::<Request>()?;
            let event_id = now(app, caller, peer, (request, sticky_ms)).await?;
            Ok(Json(json!({ "event_id": event_id })).into_response())
        }
    }
}

async fn now(
    app: App,
    caller: Caller,
    peer: Peer,
    (request, sticky_ms): (Request, Option<u64>),
) -> Result<OwnedEventId, Failure> {
    if request.event_type == MessageLikeEventType::RoomRedaction
        && let Ok(Some(target)) = request.body.get_field::<OwnedEventId>("redacts")
    {
        standing::redacts(&app, &caller, &target).await?;
    }
    let message = Message {
        event_type: request.event_type.to_string().into(),
        content: request.body.into_json(),
        txn: Some(Txn { device: caller.device_id, id: request.txn_id.to_string() }),
    };
    let moment = request.timestamp.filter(|_| peer.appservice.is_some());
    let rooms = app.rooms.dated(moment).sticky(sticky_ms);
    let event_id = rooms.send(&caller.user_id, &request.room_id, message).await?;
    app.ephemeral.note_event(&request.room_id, &caller.user_id).await;
    Ok(event_id)
}

async fn later(
    app: App,
    caller: Caller,
    (call, delay_ms, sticky_ms): (Call, u64, Option<u64>),
) -> Result<Response, Failure> {
    let [room, event_type, txn] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let room_id = OwnedRoomId::try_from(room.as_str())
        .map_err(|_| Failure::invalid_param("The path does not name a room"))?;
    let event_type = event_type.clone();
    let txn = Txn { device: caller.device_id, id: txn.clone() };
    // What has taken effect is answered whatever the body says, as for an event that is sent at once.
    let known = app.delayed.repeated(&caller.user_id, (&room_id, &event_type), &txn).await?;
    let delay_id = match known {
        Some(delay_id) => delay_id,
        None => {
            let content = call.decode::<Request>()?.request.body.into_json();
            let intent = Intent { room_id, event_type, state_key: None, content, delay_ms, sticky_ms };
            app.delayed.schedule(&caller.user_id, intent, Some(&txn)).await?
        }
    };
    Ok(Json(json!({ "delay_id": delay_id })).into_response())
}
