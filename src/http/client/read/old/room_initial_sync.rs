//! `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync>

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::Query,
    response::{IntoResponse, Response},
};
use ruma::{OwnedRoomId, RoomId, UInt, api::client::filter::RoomEventFilter, serde::Raw};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    history::Stroll,
    http::{
        App, Call, Failure,
        client::read::scene::{Scene, page_limit, place_token},
    },
    limits::PAGE_EVENTS_DEFAULT,
    log::Direction,
    types::Membership,
};

/// The query; the specification has none, clients send one all the same.
#[derive(Deserialize)]
struct Parameters {
    limit: Option<UInt>,
}

/// Answers the request: the newest events of the room, and its state.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
        .map_err(|error| Failure::invalid_param(error.body_text()))?;
    let [room] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let room = OwnedRoomId::try_from(room.as_str());
    let room = room.map_err(|_| Failure::invalid_param("The path does not name a room"))?;
    let mut scene = Scene::enter_whole(&app, &caller, &room).await?;
    let wanted = scene.wanted(RoomEventFilter::default());
    let from = scene.reach.until;
    let limit = page_limit(parameters.limit, PAGE_EVENTS_DEFAULT);
    let stroll = Stroll { from, to: None, direction: Direction::Backward, limit };
    let mut page = scene.viewer.stroll(&room, stroll, &BTreeSet::new(), &wanted).await?;
    page.events.reverse();
    let chunk: Vec<Raw<Value>> = scene.show(&page.events).await?;
    let state = app.history.state_events(scene.reach.state, None).await?;
    let state: Vec<Raw<Value>> = scene.show_state(&state).await?;
    let mut messages = json!({ "end": place_token(from), "chunk": chunk });
    if page.more {
        messages["start"] = place_token(page.reached).into();
    }
    let membership = app.history.membership(&room, &caller.user_id).await?.unwrap_or(Membership::Leave);
    let data = app.accounts.all_data(&caller.user_id, Some(&room)).await?;
    let data = data.into_iter().map(|(kind, content)| json!({ "type": kind, "content": content }));
    Ok(Json(json!({
        "room_id": room,
        "membership": membership.as_str(),
        "messages": messages,
        "state": state,
        "visibility": visibility(&app, &room).await?,
        "account_data": data.collect::<Vec<Value>>(),
    }))
    .into_response())
}

/// Whether a room is in the directory.
pub(super) async fn visibility(app: &App, room: &RoomId) -> Result<&'static str, Failure> {
    Ok(match app.history.published(room).await? {
        Some(_) => "public",
        None => "private",
    })
}
