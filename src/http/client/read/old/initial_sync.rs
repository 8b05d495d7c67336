//! `GET /_matrix/client/v3/initialSync`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3initialsync>

use axum::{
    Json,
    extract::Query,
    response::{IntoResponse, Response},
};
use ruma::{OwnedRoomId, UInt, api::client::filter::FilterDefinition, presence::PresenceState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{take_events, take_rooms};
use crate::{
    account::Caller,
    http::{App, Call, Failure},
    sync::{StateDialect, SyncRequest},
    types::Membership,
};

/// The query.
#[derive(Deserialize)]
struct Parameters {
    limit: Option<UInt>,
    #[serde(default)]
    archived: bool,
}

/// Answers the request: the first page of a sync.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
        .map_err(|error| Failure::invalid_param(error.body_text()))?;
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = parameters.limit;
    filter.room.include_leave = parameters.archived;
    let request = SyncRequest {
        filter,
        dialect: StateDialect::After,
        set_presence: Some(PresenceState::Offline),
        ..SyncRequest::default()
    };
    let page = app.sync.sync(&caller, &request, &app.stopping).await?;
    let mut page = serde_json::to_value(&page).map_err(Failure::internal)?;
    let end = page["next_batch"].take();
    let mut rooms = Vec::new();
    for kind in ["join", "leave"] {
        for (room, update) in take_rooms(&mut page, kind) {
            rooms.push(told(&app, &caller, (room, update), &end).await?);
        }
    }
    for (room, mut update) in take_rooms(&mut page, "invite") {
        let invite = take_events(&mut update["invite_state"], Some(&room));
        let of_caller = |event: &Value| event["state_key"] == caller.user_id.as_str();
        let invite = invite.into_iter().find(of_caller);
        rooms.push(json!({ "room_id": room, "membership": "invite", "invite": invite }));
    }
    let (presence, account_data) =
        (take_events(&mut page["presence"], None), take_events(&mut page["account_data"], None));
    let answer = json!({ "end": end, "rooms": rooms, "presence": presence, "account_data": account_data });
    Ok(Json(answer).into_response())
}

/// A room that the user is in or has left, as it was told of then.
async fn told(
    app: &App,
    caller: &Caller,
    (room, mut update): (String, Value),
    end: &Value,
) -> Result<Value, Failure> {
    let id = OwnedRoomId::try_from(room.as_str()).map_err(Failure::internal)?;
    let membership = app.history.membership(&id, &caller.user_id).await?.unwrap_or(Membership::Leave);
    let start = update["timeline"]["prev_batch"].take();
    let chunk = take_events(&mut update["timeline"], Some(&room));
    let mut messages = json!({ "end": end, "chunk": chunk });
    if start.is_string() {
        messages["start"] = start;
    }
    Ok(json!({
        "room_id": room,
        "membership": membership.as_str(),
        "messages": messages,
        "state": take_events(&mut update["state_after"], Some(&room)),
        "visibility": super::room_initial_sync::visibility(app, &id).await?,
        "account_data": take_events(&mut update["account_data"], None),
    }))
}
