//! Holes in what is here of a room, and what comes to fill them.
//!
//! What lies before an event that is here is no news and never a head, however late it comes: the room was as
//! that event found it. Taken for a head, it would have its state, in which little stands, resolved with what
//! the room is by now, and who had joined by rules that hold no more would be forgotten.

use std::collections::{BTreeMap, HashSet};

use ruma::{EventId, OwnedEventId};

use super::{
    batch::{Batch, Lack},
    fetch::Fetch,
};
use crate::{
    dag::{Pdu, Signed, StateKey, tree},
    history::{
        Status,
        tables::{GAPS, GapRow},
    },
    limits::EXTREMITY_WALK_MAX,
    room::{RoomError, turn::Turn},
    types::Position,
};

impl Batch<'_> {
    /// The events of the batch that something in the room follows already.
    pub(super) async fn followed(&self) -> Result<HashSet<OwnedEventId>, RoomError> {
        // Where nothing is missing, nothing comes late.
        if self.row.gaps == 0 {
            return Ok(HashSet::new());
        }
        let (history, order) = (self.rooms.history(), self.in_order());
        let ids: Vec<&EventId> = order.iter().map(|event| event.pdu().event_id()).collect();
        let keys: Vec<_> = ids.iter().map(|id| (self.room.to_owned(), (*id).to_owned())).collect();
        let missed = history.log().db().rows(&GAPS, &keys).await?;
        let mut followed: HashSet<OwnedEventId> =
            ids.iter().zip(missed).filter(|(_, row)| row.is_some()).map(|(id, _)| (*id).to_owned()).collect();
        // What stands in the state lies before some head.
        let placed: Vec<(StateKey, &EventId)> = order
            .iter()
            .filter_map(|event| Some((tree::entry_of(event.pdu())?.0, event.pdu().event_id())))
            .collect();
        let places: Vec<StateKey> = placed.iter().map(|(key, _)| key.clone()).collect();
        let fresh = std::collections::HashMap::new();
        let standing = history.ask(&fresh, |nodes| tree::get_many(nodes, self.row.state, &places)).await?;
        for ((_, id), standing) in placed.into_iter().zip(standing) {
            if standing.is_some_and(|standing| standing.event_id == id) {
                followed.insert(id.to_owned());
            }
        }
        for event in order.into_iter().rev().map(Signed::pdu) {
            if followed.contains(event.event_id()) {
                followed.extend(event.prev_events().iter().cloned());
            }
        }
        Ok(followed)
    }
}

impl Fetch<'_, '_> {
    /// Those of `events` that lie between what is here and what lacks them.
    pub(super) fn between(&self, lack: &Lack, events: Vec<Signed>) -> Vec<Signed> {
        let mut given: BTreeMap<OwnedEventId, Signed> =
            events.into_iter().map(|event| (event.pdu().event_id().to_owned(), event)).collect();
        let (mut between, mut queue) = (Vec::new(), lack.prev.keys().cloned().collect::<Vec<_>>());
        while let Some(id) = queue.pop() {
            let event = given.remove(&id).filter(|event| event.pdu().depth() >= self.batch.floor);
            if let Some(event) = event {
                queue.extend(event.pdu().prev_events().iter().cloned());
                between.push(event);
            }
        }
        between
    }
}

impl Turn {
    /// Closes the gap that an event leaves by coming, and notes those before it; what fills them will
    /// belong after `anchor`, or right before the event. Says whether there was a gap: then something in
    /// the room follows the event.
    pub(super) async fn mind_gaps(&mut self, pdu: &Pdu, anchor: Option<Position>) -> Result<bool, RoomError> {
        let follows = self.close_gap(pdu).await?.is_some();
        self.open_gaps(pdu, &GapRow { child: pdu.event_id().to_owned(), depth: pdu.depth(), anchor }).await?;
        Ok(follows)
    }

    /// What lies before an event that fills a gap, and is not shown there, belongs there itself.
    pub(super) async fn pass_gap_on(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        match self.close_gap(pdu).await? {
            Some(gap) => {
                let depth = gap.depth.min(pdu.depth());
                self.open_gaps(pdu, &GapRow { depth, ..gap }).await
            }
            None => Ok(()),
        }
    }

    async fn close_gap(&mut self, pdu: &Pdu) -> Result<Option<GapRow>, RoomError> {
        let key = (self.room_id.clone(), pdu.event_id().to_owned());
        if self.row.gaps == 0 {
            return Ok(None);
        }
        let gap = self.rooms.0.history.log().db().row(&GAPS, &key).await?;
        if gap.is_some() {
            self.row.gaps = self.row.gaps.saturating_sub(1);
            self.extra.push(Box::new(move |commit| commit.delete(&GAPS, &key)));
        }
        Ok(gap)
    }

    /// Notes what is missing right before an event, or before others there that are not shown.
    async fn open_gaps(&mut self, pdu: &Pdu, row: &GapRow) -> Result<(), RoomError> {
        let db = self.rooms.0.history.log().db().clone();
        let mut queue: Vec<OwnedEventId> = pdu.prev_events().to_vec();
        let mut seen = HashSet::new();
        while let Some(prev) = queue.pop() {
            if seen.len() >= EXTREMITY_WALK_MAX || !seen.insert(prev.clone()) {
                continue;
            }
            let event = self.known(&prev).await?.filter(|event| {
                // What was rejected without its place in the graph says nothing of what lies before it.
                let is_placed = event.states.is_some() || event.status != Status::Rejected;
                event.pdu.room_id() == self.room_id && event.status != Status::Outlier && is_placed
            });
            if let Some(event) = event {
                if matches!(event.status, Status::SoftFailed | Status::Rejected) {
                    queue.extend(event.pdu.prev_events().iter().cloned());
                }
                continue;
            }
            let key = (self.room_id.clone(), prev);
            if db.row(&GAPS, &key).await?.is_none() {
                self.row.gaps += 1;
                let row = row.clone();
                self.extra.push(Box::new(move |commit| commit.put(&GAPS, &key, &row)));
            }
        }
        Ok(())
    }
}
