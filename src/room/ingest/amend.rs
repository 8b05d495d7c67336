//! State events that were found good only after users of ours had come into the room without them.
//!
//! States were made meanwhile in which nothing stands in their places. They are put into the current state at once, and
//! wherever an older one is built on: so the room is what it would have been.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedEventId, RoomId};

use crate::{
    dag::{
        StateId, StateKey, StateValue,
        tree::{self, entry_of},
    },
    history::tables::{AMENDMENTS, AmendmentRow, Part, RETRIES, RetryRow},
    limits::{AMENDED_KEPT_MS, UNJUDGED_STATE_MAX},
    room::{RoomError, Rooms, turn::Turn, until_settled},
};

/// What stands where, if nothing else does.
pub(in crate::room) type Amendments = Arc<Vec<(StateKey, StateValue)>>;

impl Rooms {
    /// From now on, outliers of `room` belong into each of its states in which nothing else stands in their
    /// place.
    pub(super) async fn amend(&self, room: &RoomId, ids: Vec<OwnedEventId>) -> Result<(), RoomError> {
        match ids.is_empty() {
            true => Ok(()),
            false => until_settled!(self.try_amend(room, &ids)),
        }
    }

    async fn try_amend(&self, room: &RoomId, ids: &[OwnedEventId]) -> Result<(), RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        turn.amend_by(ids).await?;
        let keys: Vec<_> = ids.iter().map(|id| (room.to_owned(), id.clone())).collect();
        let known = self.0.history.log().db().rows(&AMENDMENTS, &keys).await?;
        let at_ms = self.now_ms();
        for (key, known) in keys.into_iter().zip(known) {
            if known.is_none() {
                turn.row.amended += 1;
                turn.extra
                    .push(Box::new(move |commit| commit.put(&AMENDMENTS, &key, &AmendmentRow { at_ms })));
            }
        }
        let key = (room.to_owned(), Part::Amendment.number());
        let retry = RetryRow { retry_at_ms: at_ms.saturating_add(AMENDED_KEPT_MS), ..RetryRow::default() };
        turn.extra.push(Box::new(move |commit| commit.put(&RETRIES, &key, &retry)));
        turn.close().await
    }

    /// Forgets amendments on which everything in the room stands by now.
    pub(super) async fn forget_amendments(&self, room: &RoomId, retry: &RetryRow) -> Result<(), RoomError> {
        until_settled!(self.try_forget_amendments(room, retry))
    }

    async fn try_forget_amendments(&self, room: &RoomId, retry: &RetryRow) -> Result<(), RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        let key = (room.to_owned(), Part::Amendment.number());
        let is_done = turn.row.state == turn.shown;
        match is_done {
            true => {
                turn.row.amended = 0;
                let prefix = (room.to_owned(),);
                turn.extra.push(Box::new(move |commit| {
                    commit.delete_prefix(&AMENDMENTS, &prefix);
                    commit.delete(&RETRIES, &key);
                }));
            }
            // Nothing has happened in the room since.
            false => {
                let retry_at_ms = self.now_ms().saturating_add(AMENDED_KEPT_MS);
                let after = RetryRow { retry_at_ms, ..retry.clone() };
                turn.extra.push(Box::new(move |commit| commit.put(&RETRIES, &key, &after)));
            }
        }
        turn.close().await
    }
}

impl Turn {
    /// Has more outliers belong into each state, and the current one be amended by them.
    async fn amend_by(&mut self, ids: &[OwnedEventId]) -> Result<(), RoomError> {
        let mut all = self.amendment_ids().await?;
        all.extend(ids.iter().cloned());
        self.amendments = Some(self.amendments_of(&all).await?);
        let amended = self.amended_by_known(self.row.state).await?;
        self.move_state(amended).await
    }

    /// A state with everything in it that was found good too late for it.
    pub(in crate::room) async fn amended(&mut self, state: StateId) -> Result<StateId, RoomError> {
        if self.row.amended == 0 || state == StateId::EMPTY {
            return Ok(state);
        }
        self.amended_by_known(state).await
    }

    async fn amended_by_known(&mut self, state: StateId) -> Result<StateId, RoomError> {
        let amendments = self.amendments().await?;
        let keys: Vec<StateKey> = amendments.iter().map(|(key, _)| key.clone()).collect();
        let history = &self.rooms.0.history;
        let present = history.ask(&self.nodes, |nodes| tree::get_many(nodes, state, &keys)).await?;
        let absent = amendments.iter().zip(present).filter(|(_, present)| present.is_none());
        let edits: Vec<_> = absent.map(|((key, value), _)| (key.clone(), Some(value.clone()))).collect();
        if edits.is_empty() {
            return Ok(state);
        }
        let applied = history.ask(&self.nodes, |nodes| tree::apply(nodes, state, edits.clone())).await?;
        Ok(self.note_applied(applied))
    }

    async fn amendments(&mut self) -> Result<Amendments, RoomError> {
        if let Some(known) = &self.amendments {
            return Ok(known.clone());
        }
        let ids = self.amendment_ids().await?;
        let found = self.amendments_of(&ids).await?;
        self.amendments = Some(found.clone());
        Ok(found)
    }

    async fn amendment_ids(&self) -> Result<Vec<OwnedEventId>, RoomError> {
        if self.row.amended == 0 {
            return Ok(Vec::new());
        }
        let db = self.rooms.0.history.log().db();
        let rows = db.range(&AMENDMENTS, &(self.room_id.clone(),), UNJUDGED_STATE_MAX).await?;
        Ok(rows.into_iter().map(|((_, id), _)| id).collect())
    }

    async fn amendments_of(&self, ids: &[OwnedEventId]) -> Result<Amendments, RoomError> {
        let mut found = BTreeMap::new();
        let mut events: Vec<_> = self.rooms.0.history.events(ids).await?.into_iter().flatten().collect();
        // Where several would stand in one place, the latest does.
        events.sort_by_key(|event| {
            (event.pdu.depth(), event.pdu.origin_server_ts(), event.pdu.event_id().to_owned())
        });
        found.extend(events.iter().filter_map(|event| entry_of(&event.pdu)));
        Ok(Arc::new(found.into_iter().collect()))
    }
}
