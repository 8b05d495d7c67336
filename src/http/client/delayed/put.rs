//! `PUT /_matrix/client/v1/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::sticky;
use crate::{
    http::{App, Call, Failure, client::room::admit_member},
    room::{Intent, Txn},
};

/// The body.
#[derive(Deserialize)]
struct Body {
    /// The name in the accepted proposal.
    delay_ms: Option<u64>,
    /// The name in an earlier draft.
    delay: Option<u64>,
    state_key: Option<String>,
    content: Option<Box<RawValue>>,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let body: Body = call.json()?;
    let delay_ms =
        body.delay_ms.or(body.delay).ok_or_else(|| Failure::missing_param("delay_ms is missing"))?;
    let content = body.content.ok_or_else(|| Failure::missing_param("The content is missing"))?;
    if !content.get().starts_with('{') {
        return Err(Failure::bad_json("The content must be an object"));
    }
    let sticky_ms = sticky(&call.parts.uri)?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let [room, event_type, txn] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let room_id = OwnedRoomId::try_from(room.as_str())
        .map_err(|_| Failure::invalid_param("The path does not name a room"))?;
    if let (Some(state_key), "m.room.member") = (&body.state_key, &**event_type) {
        admit_member(&app, (&caller, &call.peer), (&room_id, state_key), &content).await?;
    }
    let txn = Txn { device: caller.device_id, id: txn.clone() };
    let intent = Intent {
        room_id,
        event_type: event_type.clone(),
        state_key: body.state_key,
        content,
        delay_ms,
        sticky_ms,
    };
    let delay_id = app.delayed.schedule(&caller.user_id, intent, Some(&txn)).await?;
    Ok(Json(json!({ "delay_id": delay_id })).into_response())
}
