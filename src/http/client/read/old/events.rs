//! `GET /_matrix/client/v3/events`, of all rooms or of one
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3events>

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Json,
    extract::Query,
    response::{IntoResponse, Response},
};
use ruma::{OwnedRoomId, RoomId, api::client::filter::RoomEventFilter, serde::Raw};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{take_events, take_rooms};
use crate::{
    account::Caller,
    history::{Boundary, Stroll},
    http::{
        App, Call, Failure,
        client::read::scene::{Scene, boundary, token},
    },
    limits::{PAGE_EVENTS_MAX, SYNC_WAIT_MAX},
    log::Direction,
    sync::{StateDialect, SyncRequest},
    types::{Cursor, Position},
};

/// The query.
#[derive(Deserialize)]
struct Parameters {
    from: Option<String>,
    timeout: Option<u64>,
    room_id: Option<OwnedRoomId>,
}

/// Answers the request. Without a token it is about what happens from now on.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
        .map_err(|error| Failure::invalid_param(error.body_text()))?;
    let head = app.log.head();
    let from = parameters.from.as_deref().map(boundary).transpose()?.unwrap_or(head);
    if from > head {
        return Err(Failure::invalid_param("The token is not one of this server"));
    }
    let timeout = Duration::from_millis(parameters.timeout.unwrap_or_default()).min(SYNC_WAIT_MAX);
    let (end, chunk) = match parameters.room_id {
        Some(room) => of_room(&app, &caller, &room, (from, timeout)).await?,
        None => of_all(&app, &caller, (from, timeout)).await?,
    };
    Ok(Json(json!({ "start": token(from), "end": end, "chunk": chunk })).into_response())
}

/// What a page of a sync has of events, of every kind that was told of in this way. What is on its way to the device
/// stays, for whoever asks by `/sync`.
async fn of_all(
    app: &App,
    caller: &Caller,
    (from, timeout): (Position, Duration),
) -> Result<(String, Vec<Value>), Failure> {
    let request = SyncRequest {
        since: Some(Cursor::at(from)),
        keeps_inbox: true,
        dialect: StateDialect::Before,
        timeout,
        ..SyncRequest::default()
    };
    let page = app.sync.sync(caller, &request, &app.stopping).await?;
    let to = page.reached();
    let mut page = serde_json::to_value(&page).map_err(Failure::internal)?;
    let mut chunk = Vec::new();
    for kind in ["join", "leave"] {
        for (room, mut update) in take_rooms(&mut page, kind) {
            for part in ["state", "timeline", "ephemeral"] {
                chunk.extend(take_events(&mut update[part], Some(&room)));
            }
        }
    }
    for (room, mut update) in take_rooms(&mut page, "invite") {
        let invite = take_events(&mut update["invite_state"], Some(&room));
        chunk.extend(invite.into_iter().filter(|event| event["state_key"] == caller.user_id.as_str()));
    }
    chunk.extend(take_events(&mut page["presence"], None));
    Ok((token(to), chunk))
}

/// The events of a room that the user may look into, whether they are in it or not.
async fn of_room(
    app: &App,
    caller: &Caller,
    room: &RoomId,
    (from, timeout): (Position, Duration),
) -> Result<(String, Vec<Value>), Failure> {
    let deadline = Instant::now() + timeout;
    let mut heads = app.log.heads();
    loop {
        heads.mark_unchanged();
        let mut scene = Scene::enter(app, caller, room).await?;
        let until = scene.reach.until.max(Boundary::after(from));
        let wanted = scene.wanted(RoomEventFilter::default());
        let stroll = Stroll {
            from: Boundary::after(from),
            to: Some(until),
            direction: Direction::Forward,
            limit: PAGE_EVENTS_MAX,
        };
        let page = scene.viewer.stroll(room, stroll, &BTreeSet::new(), &wanted).await?;
        let end = if page.more { page.reached } else { until }.position;
        if !page.events.is_empty() || Instant::now() >= deadline {
            let chunk: Vec<Raw<Value>> = scene.show(&page.events).await?;
            let chunk = chunk.into_iter().map(|event| event.deserialize()).collect::<Result<_, _>>();
            return Ok((token(end), chunk.map_err(Failure::internal)?));
        }
        tokio::select! {
            changed = heads.changed() => changed.map_err(Failure::internal)?,
            () = tokio::time::sleep_until(deadline) => {}
            () = app.stopping.cancelled() => return Ok((token(end), Vec::new())),
        }
    }
}
