//! A room's graph of events, to be drawn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::{OwnedEventId, RoomId};

use super::{History, Status};
use crate::{
    dag::graph::{Mark, Vertex},
    log::Direction,
    store::StoreError,
    types::{Fact, Position},
};

impl History {
    /// The newest events of a room, at most `limit`, and what they follow; `None` if this server does
    /// not know the room.
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
        let mut vertices = BTreeMap::new();
        while let Some(id) = queue.pop_front() {
            if vertices.len() >= limit || vertices.contains_key(&id) {
                continue;
            }
            let Some(event) = self.event(&id).await? else { continue };
            let mark = match event.status {
                Status::Timeline | Status::Backfilled | Status::Outlier => Mark::Accepted,
                Status::SoftFailed => Mark::SoftFailed,
                Status::Rejected => Mark::Rejected,
            };
            queue.extend(event.pdu.prev_events().iter().cloned());
            vertices.insert(id.clone(), Vertex::of(&event.pdu, mark, heads.contains(&id)));
        }
        Ok(Some(vertices.into_values().collect()))
    }
}
