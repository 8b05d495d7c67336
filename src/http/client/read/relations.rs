//! `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidrelationseventid>

use ruma::{
    OwnedEventId, OwnedRoomId, UInt,
    api::client::{
        filter::RoomEventFilter,
        relations::get_relating_events::v1::{Request, Response},
    },
    assign,
    events::AnyMessageLikeEvent,
    serde::Raw,
};

use super::scene::{Scene, page_limit, place_token};
use crate::{
    account::Caller,
    history::{Boundary, Source, Walk},
    http::{App, Failure},
    log::Direction,
};

/// Related events in one page when the client does not say.
const DEFAULT: usize = 50;

/// What the three forms of this endpoint ask.
pub(super) struct Question {
    pub(super) room_id: OwnedRoomId,
    pub(super) event_id: OwnedEventId,
    pub(super) rel_type: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) direction: ruma::api::Direction,
    pub(super) limit: Option<UInt>,
    pub(super) recurse: bool,
}

/// What the three forms of this endpoint answer.
pub(super) struct Answer {
    pub(super) chunk: Vec<Raw<AnyMessageLikeEvent>>,
    pub(super) next_batch: Option<String>,
    pub(super) prev_batch: Option<String>,
    pub(super) recursion_depth: Option<UInt>,
}

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let question = Question {
        room_id: request.room_id,
        event_id: request.event_id,
        rel_type: None,
        event_type: None,
        from: request.from,
        to: request.to,
        direction: request.dir,
        limit: request.limit,
        recurse: request.recurse,
    };
    let Answer { chunk, next_batch, prev_batch, recursion_depth } = find(app, caller, question).await?;
    Ok(assign!(Response::new(chunk), { next_batch, prev_batch, recursion_depth }))
}

/// Finds what any of the three forms asks for.
pub(super) async fn find(app: App, caller: Caller, question: Question) -> Result<Answer, Failure> {
    let mut scene = Scene::enter(&app, &caller, &question.room_id).await?;
    scene.event(&question.room_id, &question.event_id).await?;
    let direction = super::scene::direction(question.direction);
    let walk = Walk {
        from: scene.start(question.from.as_deref(), direction)?,
        to: scene.stop(question.to.as_deref(), direction)?,
        direction,
        limit: page_limit(question.limit, DEFAULT),
    };
    let (source, recursion_depth) = source(&app, &question).await?;
    let filter =
        RoomEventFilter { types: question.event_type.clone().map(|kind| vec![kind]), ..Default::default() };
    let (passes, room) = (scene.wanted(RoomEventFilter::default()), question.room_id.clone());
    let wanted = |event: &crate::history::StoredEvent| {
        let kind = event.pdu.event_type().to_string();
        event.pdu.room_id() == room
            && filter.types.as_ref().is_none_or(|types| types.contains(&kind))
            && passes(event)
    };
    let page = scene.viewer.page(&source, walk, &wanted).await?;
    let is_start = match direction {
        Direction::Backward => walk.from >= scene.reach.until,
        Direction::Forward => walk.from == Boundary::START,
    };
    Ok(Answer {
        chunk: scene.show(&page.events).await?,
        next_batch: page.next().map(place_token),
        prev_batch: (!is_start).then(|| place_token(walk.from)),
        recursion_depth,
    })
}

/// Where the related events are found, and how many levels were followed.
async fn source<'a>(app: &App, question: &'a Question) -> Result<(Source<'a>, Option<UInt>), Failure> {
    let history = &app.history;
    if question.recurse {
        let followed = history.follow_relations(&question.event_id, question.rel_type.as_deref()).await?;
        return Ok((Source::Given(followed.events), Some(followed.depth.into())));
    }
    let kinds = match &question.rel_type {
        Some(kind) => vec![kind.clone()],
        None => history.relation_kinds(&question.event_id).await?,
    };
    Ok((Source::Relations(&question.event_id, kinds), None))
}
