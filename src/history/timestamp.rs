//! Events by time.
//!
//! A timeline is in order of arrival, which is nearly that of `origin_server_ts`: the place is found by
//! halving, and around it are those that arrived early or late. So is the place in what was filled in there.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use std::sync::Arc;

use ruma::{MilliSecondsSinceUnixEpoch, RoomId};

use super::{Boundary, History, Source, StoredEvent, Viewer, Walk, tables::BACKFILLED};
use crate::{
    limits::{TIMESTAMP_NEIGHBOURS, TIMESTAMP_PAGES_MAX},
    log::Direction,
    store::{Scan, StoreError},
    types::{Fact, Position},
};

impl Viewer {
    /// Of the events in `(from, to]` of a room that the user may see, with those that were filled in, the one next to
    /// `ts`, not before it or not after it as `direction` says.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event_by_time(
        &mut self,
        room: &RoomId,
        (from, to): (Boundary, Boundary),
        (ts, direction): (MilliSecondsSinceUnixEpoch, Direction),
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        let aim = Aim { ts, direction };
        let range = (from.position, to.position);
        let middle = self.history.halve(room, range, &|event: &StoredEvent| aim.is_beyond(event)).await?;
        let mut near: Vec<_> = self.timeline_by_time(room, range, (middle, aim)).await?.into_iter().collect();
        near.extend(self.filled_by_time(room, (from, to), (middle, aim)).await?);
        Ok(aim.nearest(&near))
    }

    async fn timeline_by_time(
        &mut self,
        room: &RoomId,
        (from, to): (Position, Position),
        (middle, aim): (Position, Aim),
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        let Aim { direction, .. } = aim;
        let start = self.history.step_back(room, (from, to), (middle, direction)).await?;
        let bound = if direction == Direction::Forward { to } else { from };
        let limit = TIMESTAMP_NEIGHBOURS;
        let (start, bound) = (Boundary::after(start), Boundary::after(bound));
        let mut walk = Walk { from: start, to: Some(bound), direction, limit };
        for _ in 0..TIMESTAMP_PAGES_MAX {
            let wanted = |event: &StoredEvent| aim.is_wanted(event);
            let page = self.page(&Source::Timeline(room), walk, &wanted).await?;
            let next = page.next();
            match (aim.nearest(&page.events), next) {
                (Some(event), _) => return Ok(Some(event)),
                (None, Some(next)) => walk.from = next,
                (None, None) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// As [`Self::event_by_time`], of what was filled in where the timeline has that time.
    async fn filled_by_time(
        &mut self,
        room: &RoomId,
        (from, to): (Boundary, Boundary),
        (middle, aim): (Position, Aim),
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        let Aim { direction, .. } = aim;
        let anchors = self.history.anchors(room).await?;
        if anchors.is_empty() {
            return Ok(None);
        }
        let (log, step) = (self.history.log(), TIMESTAMP_NEIGHBOURS / 2);
        let before = log.timeline(room, (from.position, middle), Direction::Backward, step).await?;
        let after = log.timeline(room, (middle, to.position), Direction::Forward, step).await?;
        let before = before.get(step - 1).map_or(from.position, |(position, _)| *position);
        let after = after.get(step - 1).map_or(to.position, |(position, _)| *position);
        let mut anchors: Vec<Position> = anchors.range(before..=after.max(before)).copied().collect();
        anchors.sort_by_key(|anchor| anchor.0.abs_diff(middle.0));
        let mut near = Vec::new();
        for anchor in anchors.into_iter().take(TIMESTAMP_PAGES_MAX) {
            let (first, last) = (Boundary::at(anchor).max(from), Boundary::after(anchor).min(to));
            if first >= last {
                continue;
            }
            let number =
                self.history.halve_filled(room, anchor, &|event: &StoredEvent| aim.is_beyond(event)).await?;
            let step = step as u64;
            let place = |number| Boundary { position: anchor, number };
            let (start, bound) = match direction {
                Direction::Forward => (place(number.saturating_sub(step)).max(first), last),
                Direction::Backward => (place(number.saturating_add(step)).min(last), first),
            };
            let walk = Walk { from: start, to: Some(bound), direction, limit: TIMESTAMP_NEIGHBOURS };
            let wanted = |event: &StoredEvent| aim.is_wanted(event);
            near.extend(self.page(&Source::Backfilled(room, anchor), walk, &wanted).await?.events);
        }
        Ok(aim.nearest(&near))
    }
}

/// What is looked for.
#[derive(Clone, Copy)]
struct Aim {
    ts: MilliSecondsSinceUnixEpoch,
    direction: Direction,
}

impl Aim {
    /// Whether an event is on the later side.
    fn is_beyond(self, event: &StoredEvent) -> bool {
        match self.direction {
            Direction::Forward => event.pdu.origin_server_ts() >= self.ts,
            Direction::Backward => event.pdu.origin_server_ts() > self.ts,
        }
    }

    fn is_wanted(self, event: &StoredEvent) -> bool {
        self.is_beyond(event) == (self.direction == Direction::Forward)
    }

    /// The nearest of events that are all wanted.
    fn nearest(self, events: &[Arc<StoredEvent>]) -> Option<Arc<StoredEvent>> {
        let key = |event: &&Arc<StoredEvent>| (event.pdu.origin_server_ts(), event.position);
        match self.direction {
            Direction::Forward => events.iter().min_by_key(key).cloned(),
            Direction::Backward => events.iter().max_by_key(key).cloned(),
        }
    }
}

impl History {
    /// The boundary in `(from, to]` behind which events are `is_beyond`, if they are in order.
    async fn halve(
        &self,
        room: &RoomId,
        (from, to): (Position, Position),
        is_beyond: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
    ) -> Result<Position, StoreError> {
        let (mut low, mut high) = (from.0, to.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let range = (Position(middle), Position(high));
            let facts = self.log().timeline(room, range, Direction::Forward, 1).await?;
            let found = match facts.first() {
                Some((position, Fact::Event { event_id })) => {
                    self.event(event_id).await?.map(|event| (*position, is_beyond(&event)))
                }
                // What is no event is passed over with what comes before it.
                Some((position, _)) => Some((*position, false)),
                None => None,
            };
            match found {
                Some((position, false)) => low = position.0,
                Some((_, true)) | None => high = middle,
            }
        }
        Ok(Position(low))
    }

    /// Of the events that were filled in at `anchor`, the number behind which they are `is_beyond`, if they are in order.
    async fn halve_filled(
        &self,
        room: &RoomId,
        anchor: Position,
        is_beyond: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
    ) -> Result<u64, StoreError> {
        let db = self.log().db();
        let all = BACKFILLED.prefix(&(room.to_owned(), anchor));
        let scan = Scan { from: all.clone(), to: all.after_prefix(), reverse: true, limit: 1 };
        let Some(((_, _, last), _)) = db.scan(&BACKFILLED, scan).await?.pop() else { return Ok(0) };
        let first = self.first_backfilled(room, anchor).await?.unwrap_or(last);
        let (mut low, mut high) = (first.saturating_sub(1), last);
        while low < high {
            let middle = low + (high - low) / 2;
            let from = BACKFILLED.key(&(room.to_owned(), anchor, middle)).successor();
            let to = BACKFILLED.key(&(room.to_owned(), anchor, high)).successor();
            let found = db.scan(&BACKFILLED, Scan { from, to, reverse: false, limit: 1 }).await?.pop();
            let Some(((_, _, number), id)) = found else {
                high = middle;
                continue;
            };
            match self.event(&id).await?.is_some_and(|event| is_beyond(&event)) {
                true => high = middle,
                false => low = number,
            }
        }
        Ok(low)
    }

    /// The boundary some events before `middle` in a walk of this direction.
    async fn step_back(
        &self,
        room: &RoomId,
        (from, to): (Position, Position),
        (middle, direction): (Position, Direction),
    ) -> Result<Position, StoreError> {
        let (range, way) = match direction {
            Direction::Forward => ((from, middle), Direction::Backward),
            Direction::Backward => ((middle, to), Direction::Forward),
        };
        let facts = self.log().timeline(room, range, way, TIMESTAMP_NEIGHBOURS / 2).await?;
        Ok(match (facts.last(), direction) {
            (Some((position, _)), Direction::Forward) => Position(position.0.saturating_sub(1)),
            (Some((position, _)), Direction::Backward) => *position,
            (None, _) => middle,
        })
    }
}
