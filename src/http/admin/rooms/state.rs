//! `GET /_synapse/admin/v1/rooms/{roomId}/state`: the state of a room, as it came.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, room};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    let state = app.history.current_state(&room).await?;
    let state = state.ok_or_else(|| Failure::not_found("This server does not know the room"))?;
    let events = app.history.state_events(state, None).await?;
    let mut shown = Vec::with_capacity(events.len());
    for event in &events {
        let mut text = serde_json::to_value(event.pdu.json()).map_err(Failure::internal)?;
        // Where an id is the hash of its event, the event does not say it.
        text["event_id"] = event.pdu.event_id().as_str().into();
        text["room_id"] = room.as_str().into();
        shown.push(text);
    }
    Ok(answer(json!({ "state": shown })))
}
