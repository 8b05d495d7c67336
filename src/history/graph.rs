//! A room's graph of events, to be drawn.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use ruma::{OwnedEventId, RoomId};

use super::{History, Status, StoredEvent, chains::EVENTS, event::is_hidden};
use crate::{
    dag::graph::{Mark, Vertex},
    limits::SCAN_ROWS_MAX,
    log::Direction,
    store::{Scan, StoreError},
    types::{Fact, Position},
};

impl History {
    /// The newest events of a room, at most `limit`, and what they follow, oldest first; `None` if this
    /// server does not know the room. With them, and as many again at most, come those of their time that
    /// are not shown: for these all events of the store are looked through.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn graph(&self, room: &RoomId, limit: usize) -> Result<Option<Vec<Vertex>>, StoreError> {
        let Some(row) = self.room(room).await? else { return Ok(None) };
        let heads: BTreeSet<OwnedEventId> = row.heads.iter().map(|head| head.id.clone()).collect();
        let range = (Position::ZERO, Position::MAX);
        let facts = self.0.log.timeline(room, range, Direction::Backward, limit).await?;
        let newest = facts.into_iter().filter_map(|(_, fact)| match fact {
            Fact::Event { event_id } => Some(event_id),
            _ => None,
        });
        let mut queue: VecDeque<OwnedEventId> = heads.iter().cloned().chain(newest).collect();
        let mut events: BTreeMap<OwnedEventId, Arc<StoredEvent>> = BTreeMap::new();
        while let Some(id) = queue.pop_front() {
            if events.len() >= limit || events.contains_key(&id) {
                continue;
            }
            let Some(event) = self.event(&id).await? else { continue };
            queue.extend(event.pdu.prev_events().iter().cloned());
            events.insert(id, event);
        }
        let since = events.values().map(|event| event.pdu.depth()).min().unwrap_or_default();
        for event in self.hidden(room, (since, limit), &|_: &StoredEvent| true).await? {
            events.entry(event.pdu.event_id().to_owned()).or_insert(event);
        }
        let mut events: Vec<Arc<StoredEvent>> = events.into_values().collect();
        events.sort_by_key(|event| (event.pdu.depth(), event.position));
        let vertex = |event: &Arc<StoredEvent>| {
            let mark = match event.status {
                Status::Timeline | Status::Backfilled | Status::Outlier => Mark::Accepted,
                Status::SoftFailed => Mark::SoftFailed,
                Status::Rejected => Mark::Rejected,
            };
            Vertex::of(&event.pdu, mark, heads.contains(event.pdu.event_id()))
        };
        Ok(Some(events.iter().map(vertex).collect()))
    }

    /// Those events of a room that are not shown and are wanted, of a depth of at least `since`, at most `limit`.
    pub(super) async fn hidden(
        &self,
        room: &RoomId,
        (since, limit): (u64, usize),
        is_wanted: &(dyn Fn(&StoredEvent) -> bool + Send + Sync),
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let table = EVENTS.prefix(&());
        let (mut from, to) = (table.clone(), table.after_prefix());
        let mut hidden = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let page =
                self.0.log.db().scan_many(std::slice::from_ref(&scan)).await?.pop().unwrap_or_default();
            for (key, row) in page.iter().filter(|(_, row)| is_hidden(row)) {
                let (id,) = EVENTS.decode_key(key)?;
                let event = StoredEvent::decode(&id, row)?;
                let is_there = event.pdu.room_id() == room && event.pdu.depth() >= since;
                if is_there && hidden.len() < limit && is_wanted(&event) {
                    hidden.push(event);
                }
            }
            match page.last().filter(|_| page.len() == SCAN_ROWS_MAX) {
                Some((key, _)) => from = key.successor(),
                None => return Ok(hidden),
            }
        }
    }
}
