//! `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::collections::BTreeSet;

use axum::response::{IntoResponse, Response as Answer};
use bytes::BytesMut;
use ruma::{
    OwnedRoomId, RoomId,
    api::{
        OutgoingResponseExt,
        client::message::get_message_events::v3::{Request, Response},
    },
    assign,
};

use super::{
    relation_filter::RelationFilter,
    scene::{Scene, direction, is_lazy, page_limit, place_token},
};
use crate::{
    history::{PastPage, StoredEvent, Stroll},
    http::{App, Call, Failure, call::Given},
    limits::{BACKFILLS_PER_PAGE, PAGE_EVENTS_DEFAULT},
};

/// Answers the request. Who may not look into the room is told that before anything that is wrong with the query.
pub(super) async fn handle(app: App, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller.as_ref().ok_or_else(Failure::missing_token)?;
    let room = call.path.first().and_then(|room| OwnedRoomId::try_from(room.as_str()).ok());
    let room = room.ok_or_else(|| Failure::invalid_param("The path names no room"))?;
    let scene = Scene::enter(&app, caller, &room).await?;
    let Given { uri, request, .. } = call.decode::<Request>()?;
    let answer = look(&app, scene, (RelationFilter::of(&uri), request)).await?;
    let answer = answer.try_into_http_response::<BytesMut>().map_err(Failure::internal)?;
    Ok(answer.map(BytesMut::freeze).map(axum::body::Body::from).into_response())
}

/// What there is to see.
async fn look(
    app: &App,
    mut scene: Scene,
    (relations, request): (RelationFilter, Request),
) -> Result<Response, Failure> {
    let direction = direction(request.dir);
    let stroll = Stroll {
        from: scene.start(request.from.as_deref(), direction)?,
        to: scene.stop(request.to.as_deref(), direction)?,
        direction,
        limit: page_limit(Some(request.limit), PAGE_EVENTS_DEFAULT),
    };
    let lazy = is_lazy(&request.filter);
    let wanted = scene.wanted(request.filter);
    let wanted = |event: &StoredEvent| wanted(event) && relations.passes(&event.pdu);
    let page = page(app, &mut scene, &request.room_id, stroll, &wanted).await?;
    let members = match lazy {
        true => scene.senders(&page.events).await?,
        false => Vec::new(),
    };
    Ok(assign!(Response::new(), {
        start: place_token(stroll.from),
        end: page.more.then(|| place_token(page.reached)),
        chunk: scene.show(&page.events).await?,
        state: scene.show_state(&members).await?,
    }))
}

/// A page of the room; where events are missing, other servers are asked for them.
async fn page(
    app: &App,
    scene: &mut Scene,
    room: &RoomId,
    stroll: Stroll,
    wanted: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
) -> Result<PastPage, Failure> {
    let mut passed = BTreeSet::new();
    let mut page = scene.viewer.stroll(room, stroll, &passed, wanted).await?;
    let mut left = BACKFILLS_PER_PAGE;
    // What is lacking after so many attempts is tried for the next page.
    while let Some(anchor) = page.lacking.filter(|_| left > 0) {
        left -= 1;
        if !app.rooms.backfill(room, anchor).await? {
            passed.insert(anchor);
        }
        let limit = stroll.limit.saturating_sub(page.events.len());
        let rest = Stroll { from: page.reached, limit, ..stroll };
        let next = scene.viewer.stroll(room, rest, &passed, wanted).await?;
        page.events.extend(next.events);
        (page.reached, page.more, page.lacking) = (next.reached, next.more, next.lacking);
    }
    Ok(page)
}
