//! Pages of events, filled with what the reader may see.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, events::StateEventType};

use super::{
    Boundary, History, StoredEvent, Viewer,
    tables::{BACKFILLED, THREADS},
};
use crate::{
    dag::{StateId, StateKey},
    limits::{PAGE_EVENTS_LOOKED_AT_MAX, PAGE_EVENTS_MAX},
    log::Direction,
    store::{Scan, StoreError},
    types::{Fact, Position},
};

/// Where events come from. In each, an event has one place.
pub enum Source<'a> {
    /// The timeline of a room.
    Timeline(&'a RoomId),
    /// The events that relate to one in any of these ways.
    Relations(&'a EventId, Vec<String>),
    /// The first events of a room's threads, where the latest ones are.
    Threads(&'a RoomId),
    /// The back-filled events of a room after a position; nothing else is looked at.
    Backfilled(&'a RoomId, Position),
    /// These, oldest first.
    Given(Vec<(Boundary, OwnedEventId)>),
}

/// Which events of a source are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where to start.
    pub from: Boundary,
    /// Where to stop at the latest.
    pub to: Option<Boundary>,
    /// Which way.
    pub direction: Direction,
    /// How many at most.
    pub limit: usize,
}

/// A page of events, in the order of the walk.
pub struct EventPage {
    /// The events.
    pub events: Vec<Arc<StoredEvent>>,
    /// How far the page reaches.
    pub reached: Boundary,
    /// Whether there may be more beyond.
    pub more: bool,
}

impl EventPage {
    /// Where the next page starts, if there may be one.
    #[must_use]
    pub fn next(&self) -> Option<Boundary> {
        self.more.then_some(self.reached)
    }
}

impl Walk {
    /// The places `(from, to]` that are left once a boundary is reached; `None` when it is the end.
    fn left(&self, reached: Boundary, head: Boundary) -> Option<(Boundary, Boundary)> {
        let (from, to) = match self.direction {
            Direction::Backward => (self.to.unwrap_or(Boundary::START), reached.min(head)),
            Direction::Forward => (reached, self.to.unwrap_or(head).min(head)),
        };
        (from < to).then_some((from, to))
    }

    /// The boundary behind the event at `place`.
    fn behind(&self, place: Boundary) -> Boundary {
        match self.direction {
            Direction::Backward => place.before(),
            Direction::Forward => place,
        }
    }
}

impl Viewer {
    /// The next events of a source that the user may see and that are `wanted`. A page may have fewer
    /// than the limit, even none, and still not be the last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(
        &mut self,
        source: &Source<'_>,
        walk: Walk,
        wanted: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
    ) -> Result<EventPage, StoreError> {
        let head = Boundary::after(self.history.log().head());
        let mut page = EventPage { events: Vec::new(), reached: walk.from, more: true };
        // What a redaction would leave relates to nothing.
        let by_relation = matches!(source, Source::Relations(..) | Source::Given(_));
        let (mut chunk, mut looked_at) = (walk.limit.saturating_add(1).min(PAGE_EVENTS_MAX), 0);
        while looked_at < PAGE_EVENTS_LOOKED_AT_MAX {
            let Some(range) = walk.left(page.reached, head) else {
                page.more = false;
                break;
            };
            let found = self.history.candidates(source, range, walk.direction, chunk).await?;
            let ids: Vec<OwnedEventId> = found.iter().filter_map(|(_, id)| id.clone()).collect();
            let events = self.history.event_map(&ids).await?;
            if !matches!(source, Source::Threads(_)) {
                let filled_in = found.iter().filter(|(place, _)| place.number > 0);
                self.places.extend(filled_in.filter_map(|(place, id)| Some((id.clone()?, *place))));
            }
            for (place, id) in &found {
                if page.events.len() >= walk.limit {
                    return Ok(page);
                }
                page.reached = walk.behind(*place);
                let event = id.as_ref().and_then(|id| events.get(id));
                if let Some(event) = event.filter(|event| wanted(event))
                    && !(by_relation && self.is_kept_from(event))
                    && self.sees(event).await?
                {
                    page.events.push(event.clone());
                }
            }
            if found.len() < chunk {
                page.more = false;
                break;
            }
            looked_at += found.len();
            chunk = chunk.saturating_mul(2).min(PAGE_EVENTS_MAX);
        }
        Ok(page)
    }
}

impl History {
    /// At most `limit` events of a source in `(from, to]`. What is not an event has its place too.
    async fn candidates(
        &self,
        source: &Source<'_>,
        range: (Boundary, Boundary),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Boundary, Option<OwnedEventId>)>, StoreError> {
        match source {
            Source::Timeline(room) => {
                let range = (range.0.position, range.1.position);
                let facts = self.0.log.timeline(room, range, direction, limit).await?;
                let id = |fact| match fact {
                    Fact::Event { event_id } => Some(event_id),
                    _ => None,
                };
                Ok(facts.into_iter().map(|(position, fact)| (Boundary::at(position), id(fact))).collect())
            }
            Source::Relations(parent, kinds) => {
                let rows = self.relating(parent, kinds, range, (direction, limit)).await?;
                Ok(rows.into_iter().map(|(place, row)| (place, Some(row.event_id))).collect())
            }
            Source::Threads(room) => {
                let room = (*room).to_owned();
                let from = THREADS.key(&(room.clone(), range.0)).successor();
                let to = THREADS.key(&(room, range.1)).successor();
                let reverse = direction == Direction::Backward;
                let rows = self.0.log.db().scan(&THREADS, Scan { from, to, reverse, limit }).await?;
                Ok(rows.into_iter().map(|((_, place), row)| (place, Some(row.root))).collect())
            }
            Source::Backfilled(room, anchor) => {
                let room = (*room).to_owned();
                let from = BACKFILLED.key(&(room.clone(), *anchor, range.0.number)).successor();
                let to = BACKFILLED.key(&(room, *anchor, range.1.number)).successor();
                let reverse = direction == Direction::Backward;
                let rows = self.0.log.db().scan(&BACKFILLED, Scan { from, to, reverse, limit }).await?;
                let place = |number| Boundary { position: *anchor, number };
                Ok(rows.into_iter().map(|((_, _, number), id)| (place(number), Some(id))).collect())
            }
            Source::Given(events) => {
                let inside = events.iter().filter(|(at, _)| range.0 < *at && *at <= range.1);
                let copy = |(at, id): &(Boundary, OwnedEventId)| (*at, Some(id.clone()));
                Ok(match direction {
                    Direction::Backward => inside.rev().take(limit).map(copy).collect(),
                    Direction::Forward => inside.take(limit).map(copy).collect(),
                })
            }
        }
    }

    /// The member events of those who sent `events`, in one state.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sender_members(
        &self,
        state: StateId,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut senders: Vec<OwnedUserId> =
            events.iter().map(|event| event.pdu.sender().to_owned()).collect();
        senders.sort_unstable();
        senders.dedup();
        let key = |user: &OwnedUserId| StateKey::new(StateEventType::RoomMember, user.as_str());
        let keys: Vec<StateKey> = senders.iter().map(key).collect();
        let found = self.state_entries(state, &keys).await?;
        let ids: Vec<OwnedEventId> = found.into_iter().flatten().map(|value| value.event_id).collect();
        Ok(self.events(&ids).await?.into_iter().flatten().collect())
    }
}
