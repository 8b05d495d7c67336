//! `GET /_matrix/client/v3/events/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3eventseventid>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{OwnedEventId, serde::Raw};
use serde_json::Value;

use crate::http::{
    App, Call, Failure,
    client::read::scene::{Scene, no_such_event},
};

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let [id] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let id = OwnedEventId::try_from(id.as_str());
    let id = id.map_err(|_| Failure::invalid_param("The path does not name an event"))?;
    let event = app.history.event(&id).await?.ok_or_else(no_such_event)?;
    let room = event.pdu.room_id();
    let mut scene = Scene::find(&app, &caller, room).await?.ok_or_else(no_such_event)?;
    let event = scene.event(room, &id).await?;
    let shown: Raw<Value> = scene.show_one(&event).await?;
    Ok(Json(shown).into_response())
}
