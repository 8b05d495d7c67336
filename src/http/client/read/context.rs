//! `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>

use std::collections::BTreeSet;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{
    api::client::context::get_context::v3::Request,
    events::{AnyStateEvent, AnyTimelineEvent},
    serde::Raw,
};
use serde::Serialize;

use super::{
    scene::{Scene, is_lazy, page_limit, place_token},
    stroll::{Wanted, relations, stroll},
};
use crate::{
    history::Stroll,
    http::{App, Call, Failure, call::Given},
    limits::PAGE_EVENTS_DEFAULT,
    log::Direction,
};

/// The answer. Not ruma's, because that leaves out what is empty, and clients look for it.
#[derive(Serialize)]
struct Answer {
    start: String,
    end: String,
    events_before: Vec<Raw<AnyTimelineEvent>>,
    event: Raw<AnyTimelineEvent>,
    events_after: Vec<Raw<AnyTimelineEvent>>,
    state: Vec<Raw<AnyStateEvent>>,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { caller, uri, request, .. } = call.decode::<Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let event = scene.event(&request.room_id, &request.event_id).await?;
    let limit = page_limit(Some(request.limit), PAGE_EVENTS_DEFAULT);
    let lazy = is_lazy(&request.filter);
    let (relations, passes) = (relations(&uri)?, scene.wanted(request.filter));
    // What is missing is fetched when the client asks for it with one of the tokens.
    let wanted = || Wanted { relations: &relations, passes: &passes, backfills: 0 };
    let (before, after) = app.history.boundaries(&event).await?;
    let room = &request.room_id;
    let backward = Stroll { from: before, to: None, direction: Direction::Backward, limit: limit / 2 };
    let earlier = stroll(&app, &mut scene, room, backward, wanted()).await?;
    let to = Some(scene.reach.until);
    let forward = Stroll { from: after, to, direction: Direction::Forward, limit: limit - limit / 2 };
    let later = stroll(&app, &mut scene, room, forward, wanted()).await?;

    let events = || earlier.events.iter().rev().chain([&event]).chain(&later.events);
    let last = events().last().and_then(|last| last.states);
    let state = last.map_or(scene.reach.state, |states| states.current);
    let senders = lazy.then(|| events().map(|event| event.pdu.sender()).collect::<BTreeSet<_>>());
    let mut state = scene.state(state, senders.as_ref()).await?;
    state.retain(|event| passes(event));
    let answer = Answer {
        start: place_token(earlier.reached),
        end: place_token(later.reached),
        events_before: scene.show(&earlier.events).await?,
        event: scene.show_one(&event).await?,
        events_after: scene.show(&later.events).await?,
        state: scene.show_state(&state).await?,
    };
    Ok(Json(answer).into_response())
}
