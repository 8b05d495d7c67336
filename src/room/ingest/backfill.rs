//! The past of a room, from the servers that were there.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{EventId, OwnedEventId, RoomId, UInt, api::federation::backfill::get_backfill};

use super::{batch::Batch, fetch::Fetch, take::Way};
use crate::{
    dag::Signed,
    history::Status,
    limits::{BACKFILL_EVENTS, BACKFILL_FROM_MAX, BACKFILL_NUMBER_FIRST},
    room::{RoomError, Rooms},
    types::Position,
};

impl Rooms {
    /// Gets events that are missing right after a position of a room's timeline from other servers; whether
    /// any came.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn backfill(&self, room: &RoomId, anchor: Position) -> Result<bool, RoomError> {
        let _fetching = self.0.fetches.lock(room).await;
        let Some(row) = self.0.history.room(room).await? else { return Ok(false) };
        let missing: Vec<OwnedEventId> = self
            .0
            .history
            .gaps(room)
            .await?
            .into_iter()
            .filter(|(_, at, _)| *at == anchor)
            .map(|(missing, ..)| missing)
            .take(BACKFILL_FROM_MAX)
            .collect();
        // Without one of ours in the room nobody will answer.
        if missing.is_empty() || row.joined == row.remote {
            return Ok(false);
        }
        let mut batch = Batch::new(self, room, row);
        let mut fetch = Fetch::new(&mut batch, self.0.history.server()).await?;
        if !fetch.past(&missing).await? {
            return Ok(false);
        }
        fetch.found().await?;
        let first = self.0.history.first_backfilled(room, anchor).await?.unwrap_or(BACKFILL_NUMBER_FIRST);
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let Some(first) = first.checked_sub(count).filter(|first| *first > 0) else { return Ok(false) };
        let outcomes = self.settle(room, &batch, Way::Past(anchor, first)).await?;
        Ok(outcomes.iter().any(|(_, outcome)| outcome.is_news()))
    }
}

impl Fetch<'_, '_> {
    /// Asks servers for events up to `missing`; whether one gave some.
    async fn past(&mut self, missing: &[OwnedEventId]) -> Result<bool, RoomError> {
        let limit = UInt::try_from(BACKFILL_EVENTS).unwrap_or(UInt::MAX);
        let request = get_backfill::v1::Request::new(self.batch.room.to_owned(), missing.to_vec(), limit);
        let mut round = self.round();
        while let Some((_, answer)) = self.ask_next(&mut round, &request).await {
            let Some(answer) = answer else { continue };
            let mut texts = answer.pdus;
            texts.truncate(BACKFILL_EVENTS);
            let events: Vec<Signed> = self.check(texts).await?;
            let events = self.in_gap(missing, events).await?;
            if self.batch.extend(events) > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Without what lies only behind events that have their place here: from before this server left, say, when it
    /// has come again. That is missing there, and is got when somebody looks back as far.
    async fn in_gap(&self, missing: &[OwnedEventId], events: Vec<Signed>) -> Result<Vec<Signed>, RoomError> {
        let given: HashMap<&EventId, &Signed> =
            events.iter().map(|event| (event.pdu().event_id(), event)).collect();
        let named = events.iter().flat_map(|event| event.pdu().prev_events()).chain(missing);
        let named: BTreeSet<OwnedEventId> = named.cloned().collect();
        let named: Vec<OwnedEventId> = named.into_iter().collect();
        let stored = self.batch.rooms.0.history.events(&named).await?.into_iter().flatten();
        let placed = stored.filter(|event| event.status != Status::Outlier);
        let placed: HashSet<OwnedEventId> = placed.map(|event| event.pdu.event_id().to_owned()).collect();
        let (mut found, mut next, mut is_whole) = (HashSet::new(), missing.to_vec(), true);
        while let Some(id) = next.pop() {
            match given.get(&*id) {
                _ if placed.contains(&id) => {}
                Some(event) if found.insert(id) => next.extend(event.pdu().prev_events().iter().cloned()),
                Some(_) => {}
                // What is on the other side of it cannot be told.
                None => is_whole = false,
            }
        }
        let is_here = |event: &Signed| !is_whole || found.contains(event.pdu().event_id());
        Ok(events.into_iter().filter(is_here).collect())
    }

    /// Gets the state where the batch begins.
    async fn found(&mut self) -> Result<(), RoomError> {
        self.claim_states().await?;
        self.complete_auth().await
    }
}
