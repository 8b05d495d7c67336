//! The past of a room, from the servers that were there.

use ruma::{OwnedEventId, RoomId, UInt, api::federation::backfill::get_backfill};

use super::{batch::Batch, fetch::Fetch, take::Way};
use crate::{
    dag::Signed,
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
    /// Asks one server after the other for events up to `missing`; whether one gave some.
    async fn past(&mut self, missing: &[OwnedEventId]) -> Result<bool, RoomError> {
        let mut asked = Vec::new();
        while let Some(server) = self.next(&mut asked) {
            let limit = UInt::try_from(BACKFILL_EVENTS).unwrap_or(UInt::MAX);
            let request = get_backfill::v1::Request::new(self.batch.room.to_owned(), missing.to_vec(), limit);
            let Some(answer) = self.ask(&server, request).await else { continue };
            let mut texts = answer.pdus;
            texts.truncate(BACKFILL_EVENTS);
            let events: Vec<Signed> = self.check(texts).await?;
            if self.batch.extend(events) > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gets the state where the batch begins.
    async fn found(&mut self) -> Result<(), RoomError> {
        self.claim_states().await?;
        self.complete_auth().await
    }
}
