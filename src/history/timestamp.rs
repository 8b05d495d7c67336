//! Events by time.
//!
//! A timeline is in order of arrival, which is nearly that of `origin_server_ts`: the place is found by
//! halving, and around it are those that arrived early or late.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use std::sync::Arc;

use ruma::{MilliSecondsSinceUnixEpoch, RoomId};

use super::{Boundary, History, Source, StoredEvent, Viewer, Walk};
use crate::{
    limits::{TIMESTAMP_NEIGHBOURS, TIMESTAMP_PAGES_MAX},
    log::Direction,
    store::StoreError,
    types::{Fact, Position},
};

impl Viewer {
    /// Of the events in `(from, to]` of a room that the user may see, the one next to `ts`, not before it
    /// or not after it as `direction` says.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event_by_time(
        &mut self,
        room: &RoomId,
        (from, to): (Position, Position),
        (ts, direction): (MilliSecondsSinceUnixEpoch, Direction),
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        let forward = direction == Direction::Forward;
        let is_beyond = |event: &StoredEvent| match forward {
            true => event.pdu.origin_server_ts() >= ts,
            false => event.pdu.origin_server_ts() > ts,
        };
        let middle = self.history.halve(room, (from, to), &is_beyond).await?;
        let start = self.history.step_back(room, (from, to), (middle, direction)).await?;
        let wanted = move |event: &StoredEvent| match forward {
            true => event.pdu.origin_server_ts() >= ts,
            false => event.pdu.origin_server_ts() <= ts,
        };
        let bound = if forward { to } else { from };
        let limit = TIMESTAMP_NEIGHBOURS;
        let (start, bound) = (Boundary::after(start), Boundary::after(bound));
        let mut walk = Walk { from: start, to: Some(bound), direction, limit };
        for _ in 0..TIMESTAMP_PAGES_MAX {
            let page = self.page(&Source::Timeline(room), walk, &wanted).await?;
            let next = page.next();
            let key = |event: &&Arc<StoredEvent>| (event.pdu.origin_server_ts(), event.position);
            let nearest = match forward {
                true => page.events.iter().min_by_key(key),
                false => page.events.iter().max_by_key(key),
            };
            match (nearest, next) {
                (Some(event), _) => return Ok(Some(event.clone())),
                (None, Some(next)) => walk.from = next,
                (None, None) => return Ok(None),
            }
        }
        Ok(None)
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
