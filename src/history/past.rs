//! The history of a room with its past: the timeline, and between its events those from before this server
//! was there, or that it missed.
//!
//! A back-filled event has an anchor, the position after which it belongs, and a number that orders it
//! among those of the same anchor. So the events of a room are ordered by pairs: a timeline event at `p` is
//! at `(p, 0)`, a back-filled one at `(p, n)`, and the boundary `p` of a timeline lies behind all of them.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, RoomId};

use super::{
    History, Source, Status, StoredEvent, Viewer, Walk,
    tables::{BACKFILLED, GAPS, GapRow, PLACES},
};
use crate::{
    limits::{PAGE_EVENTS_LOOKED_AT_MAX, PAST_ANCHORS_MAX},
    log::Direction,
    store::{Field, KeyReader, KeyWriter, Scan, StoreError},
    types::Position,
};

/// A place between two events of a room. The one right after an event is also where the event is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boundary {
    /// After the timeline event at this position,
    pub position: Position,
    /// and after the back-filled events up to this number.
    pub number: u64,
}

impl Boundary {
    /// Before everything.
    pub const START: Self = Self::at(Position::ZERO);

    /// Right after the timeline event at a position, before what was filled in there.
    #[must_use]
    pub const fn at(position: Position) -> Self {
        Self { position, number: 0 }
    }

    /// The boundary after everything up to a position.
    #[must_use]
    pub const fn after(position: Position) -> Self {
        Self { position, number: u64::MAX }
    }

    /// The boundary right before the event that is here.
    #[must_use]
    pub fn before(self) -> Self {
        match self.number.checked_sub(1) {
            Some(number) => Self { number, ..self },
            None => self.position.0.checked_sub(1).map_or(Self::START, |last| Self::after(Position(last))),
        }
    }
}

/// The last field of a key. Without a number it is a position alone, so that it sorts before those of the same position
/// that have one; and rows from when only timeline events had some are as they would be now.
impl Field for Boundary {
    fn write(&self, writer: &mut KeyWriter) {
        self.position.write(writer);
        if self.number > 0 {
            self.number.write(writer);
        }
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let position = Position::read(reader)?;
        let number = if reader.rest().is_empty() { 0 } else { u64::read(reader)? };
        Some(Self { position, number })
    }
}

/// Which events of a room are wanted; see [`Walk`].
#[derive(Clone, Copy, Debug)]
pub struct Stroll {
    /// Where to start.
    pub from: Boundary,
    /// Where to stop at the latest.
    pub to: Option<Boundary>,
    /// Which way.
    pub direction: Direction,
    /// How many at most.
    pub limit: usize,
}

/// A page of a room's history.
pub struct PastPage {
    /// The events, in the order of the walk.
    pub events: Vec<Arc<StoredEvent>>,
    /// How far the page reaches.
    pub reached: Boundary,
    /// Whether there may be more beyond.
    pub more: bool,
    /// Events are missing here that other servers may have.
    pub lacking: Option<Position>,
}

impl Viewer {
    /// The next events of a room that the user may see and that are `wanted`. The page ends where events
    /// are missing, so that they may be fetched before it goes on; `passed` names where that was tried.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stroll(
        &mut self,
        room: &RoomId,
        stroll: Stroll,
        passed: &BTreeSet<Position>,
        wanted: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
    ) -> Result<PastPage, StoreError> {
        let anchors = self.history.anchors(room).await?;
        let mut page = PastPage { events: Vec::new(), reached: stroll.from, more: true, lacking: None };
        for _ in 0..PAGE_EVENTS_LOOKED_AT_MAX {
            let left = stroll.limit.saturating_sub(page.events.len());
            let is_past = stroll.to.is_some_and(|to| match stroll.direction {
                Direction::Backward => page.reached <= to,
                Direction::Forward => page.reached >= to,
            });
            if left == 0 || is_past {
                page.more = left == 0 && !is_past;
                return Ok(page);
            }
            let Some(leg) = leg(page.reached, &anchors, &stroll) else {
                page.more = false;
                return Ok(page);
            };
            let source = match leg.anchor {
                Some(anchor) => Source::Backfilled(room, anchor),
                None => Source::Timeline(room),
            };
            let (from, direction) = (page.reached, stroll.direction);
            let walk = Walk { from, to: Some(leg.to), direction, limit: left };
            let part = self.page(&source, walk, wanted).await?;
            page.events.extend(part.events);
            if part.more {
                page.reached = match anchors.contains(&part.reached.position) {
                    true => part.reached,
                    // Nothing was filled in there.
                    false => Boundary::after(part.reached.position),
                };
                return Ok(page);
            }
            let is_through = stroll.direction == Direction::Backward && leg.to.number == 0;
            let back_to = leg.anchor.filter(|_| is_through);
            if let Some(anchor) = back_to.filter(|anchor| !passed.contains(anchor))
                && self.history.has_gap(room, anchor).await?
            {
                page.reached = part.reached;
                page.lacking = Some(anchor);
                return Ok(page);
            }
            page.reached = leg.to;
        }
        Ok(page)
    }
}

/// A part of the way that lies in one source.
struct Leg {
    /// The anchor, among back-filled events.
    anchor: Option<Position>,
    to: Boundary,
}

fn leg(at: Boundary, anchors: &BTreeSet<Position>, stroll: &Stroll) -> Option<Leg> {
    let has_anchor = anchors.contains(&at.position);
    let (first, last) = (Boundary::at(at.position), Boundary::after(at.position));
    match stroll.direction {
        Direction::Backward if at.number > 0 && has_anchor => {
            Some(Leg { anchor: Some(at.position), to: stroll.to.map_or(first, |to| to.max(first)) })
        }
        Direction::Backward => {
            let before = anchors.range(..at.position).next_back().copied().unwrap_or(Position::ZERO);
            let stop = stroll.to.map_or(before, |to| before.max(to.position));
            (stop < at.position).then(|| Leg { anchor: None, to: Boundary::after(stop) })
        }
        Direction::Forward if at.number < u64::MAX && has_anchor => {
            Some(Leg { anchor: Some(at.position), to: stroll.to.map_or(last, |to| to.min(last)) })
        }
        Direction::Forward => {
            let next = anchors.range(at.position.next()..).next().copied().unwrap_or(Position::MAX);
            let stop = stroll.to.map_or(next, |to| next.min(to.position));
            (at.position < stop).then(|| Leg { anchor: None, to: Boundary::at(stop) })
        }
    }
}

impl History {
    /// The boundaries right before and right after an event that is shown in its room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn boundaries(&self, event: &StoredEvent) -> Result<(Boundary, Boundary), StoreError> {
        let place = self.place(event).await?.unwrap_or(Boundary::at(event.position));
        Ok((place.before(), place))
    }

    /// Where an event is in its room; nothing for one that has no place there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn place(&self, event: &StoredEvent) -> Result<Option<Boundary>, StoreError> {
        match event.status {
            Status::Timeline => Ok(Some(Boundary::at(event.position))),
            Status::Backfilled => {
                let key = (event.pdu.event_id().to_owned(),);
                let place = self.log().db().row(&PLACES, &key).await?;
                Ok(place.map(|(position, number)| Boundary { position, number }))
            }
            Status::Outlier | Status::SoftFailed | Status::Rejected => Ok(None),
        }
    }

    /// Whether events of the room are missing in its timeline, or have been filled in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_past(&self, room: &RoomId) -> Result<bool, StoreError> {
        Ok(!self.anchors(room).await?.is_empty())
    }

    /// The positions after which events are missing or were filled in.
    pub(super) async fn anchors(&self, room: &RoomId) -> Result<BTreeSet<Position>, StoreError> {
        let mut anchors = BTreeSet::new();
        let db = self.log().db().clone();
        let mut from = BACKFILLED.prefix(&(room.to_owned(),));
        let to = from.after_prefix();
        while anchors.len() < PAST_ANCHORS_MAX {
            let scan = Scan { from: from.clone(), to: to.clone(), reverse: false, limit: 1 };
            let Some(((_, anchor, _), _)) = db.scan(&BACKFILLED, scan).await?.pop() else { break };
            anchors.insert(anchor);
            from = BACKFILLED.prefix(&(room.to_owned(), anchor.next()));
        }
        anchors.extend(self.gaps(room).await?.into_iter().map(|(_, anchor, _)| anchor));
        Ok(anchors)
    }

    async fn has_gap(&self, room: &RoomId, anchor: Position) -> Result<bool, StoreError> {
        Ok(self.gaps(room).await?.iter().any(|(_, at, _)| *at == anchor))
    }

    /// The events that are missing in a room, with where they belong; the deepest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn gaps(&self, room: &RoomId) -> Result<Vec<(OwnedEventId, Position, GapRow)>, StoreError> {
        if self.room(room).await?.is_none_or(|row| row.gaps == 0) {
            return Ok(Vec::new());
        }
        let rows = self.log().db().range(&GAPS, &(room.to_owned(),), PAST_ANCHORS_MAX).await?;
        let mut gaps = Vec::with_capacity(rows.len());
        for ((_, missing), row) in rows {
            let anchor = match row.anchor {
                Some(anchor) => Some(anchor),
                None => {
                    self.event(&row.child).await?.map(|child| Position(child.position.0.saturating_sub(1)))
                }
            };
            gaps.extend(anchor.map(|anchor| (missing, anchor, row)));
        }
        gaps.sort_by_key(|(_, _, row)| Reverse(row.depth));
        Ok(gaps)
    }

    /// The number of the first back-filled event after a position, if there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn first_backfilled(&self, room: &RoomId, anchor: Position) -> Result<Option<u64>, StoreError> {
        let rows = self.log().db().range(&BACKFILLED, &(room.to_owned(), anchor), 1).await?;
        Ok(rows.into_iter().next().map(|((_, _, number), _)| number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Boundary;
    use crate::{
        store::{Key, table::TableId},
        types::Position,
    };

    proptest! {
        /// Rows are in the order of places, and one of an event of the timeline is where its position says.
        #[test]
        fn keys_are_in_the_order_of_places(a in 0..3_u64, b in 0..3_u64, m in 0..3_u64, n in 0..300_u64) {
            let place = |position, number| Boundary { position: Position(position), number };
            let key = |place: Boundary| Key::new(TableId::Relation, &(place,));
            for number in [n, u64::MAX - n, 0] {
                let (left, right) = (place(a, m), place(b, number));
                prop_assert_eq!(key(left).cmp(&key(right)), left.cmp(&right));
                let read = crate::store::KeyFields::read(&mut crate::store::KeyReader::new(&key(right)));
                prop_assert_eq!(read, Some((right,)));
                prop_assert!(right.before() < right || right == Boundary::START);
                // What lies behind a place are the keys from the next one on.
                prop_assert_eq!(key(left) >= key(right).successor(), left > right);
            }
            prop_assert_eq!(key(Boundary::at(Position(a))), Key::new(TableId::Relation, &(Position(a),)));
        }
    }
}
