//! `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>

use std::collections::BTreeSet;

use ruma::{
    api::client::context::get_context::v3::{Request, Response},
    assign,
};

use super::scene::{Scene, is_lazy, page_limit, place_token};
use crate::{
    account::Caller,
    history::{Boundary, Stroll},
    http::{App, Failure},
    limits::PAGE_EVENTS_DEFAULT,
    log::Direction,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let event = scene.event(&request.room_id, &request.event_id).await?;
    let limit = page_limit(Some(request.limit), PAGE_EVENTS_DEFAULT);
    let lazy = is_lazy(&request.filter);
    let wanted = scene.wanted(request.filter);
    let (before, after) = app.history.boundaries(&event).await?;
    let room = &request.room_id;
    // What is missing is fetched when the client asks for it with one of the tokens.
    let passed = BTreeSet::new();
    let backward = Stroll { from: before, to: None, direction: Direction::Backward, limit: limit / 2 };
    let earlier = scene.viewer.stroll(room, backward, &passed, &wanted).await?;
    let to = Some(Boundary::after(scene.reach.until));
    let forward = Stroll { from: after, to, direction: Direction::Forward, limit: limit - limit / 2 };
    let later = scene.viewer.stroll(room, forward, &passed, &wanted).await?;

    let mut events: Vec<_> =
        earlier.events.iter().rev().chain([&event]).chain(&later.events).cloned().collect();
    let state = match lazy {
        true => scene.senders(&events).await?,
        false => {
            let last = events.pop().and_then(|last| last.states);
            let state = last.map_or(scene.reach.state, |states| states.current);
            app.history.state_events(state, None).await?
        }
    };
    Ok(assign!(Response::new(), {
        start: Some(place_token(earlier.reached)),
        end: Some(place_token(later.reached)),
        events_before: scene.show(&earlier.events).await?,
        event: Some(scene.show_one(&event).await?),
        events_after: scene.show(&later.events).await?,
        state: scene.show_state(&state).await?,
    }))
}
