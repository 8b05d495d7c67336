//! The state at an event that is not here, by the word of another server.
//!
//! Each event of it is checked and judged by itself; only that the state consists of just these is
//! believed, for the events of one batch, and the room's own state is never replaced by it but only
//! resolved with it.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedEventId, RoomId, ServerName, api::federation::event::get_room_state_ids};

use super::{fetch::Fetch, outlier};
use crate::{
    dag::{
        StateKey, StateValue,
        tree::{self, entry_of},
    },
    history::{History, Status},
    limits::{EVENTS_LOOKED_THROUGH_AT_ONCE, FETCH_ONE_BY_ONE_MAX},
    room::RoomError,
};

/// What came of asking for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// There is one.
    Given,
    /// There is none that could be taken.
    Unsound,
    /// Nobody knows it.
    Nowhere,
}

impl Fetch<'_, '_> {
    /// Gets the state after `event`, which is not here, or before it, if it is in the batch, from the first server that
    /// gives a sound one.
    pub(super) async fn claim(&mut self, event: &OwnedEventId) -> Result<Claim, RoomError> {
        if self.batch.get(event).is_none() && !self.get_ready(event).await? {
            return Ok(Claim::Nowhere);
        }
        let (mut round, mut found) = (self.round(), Claim::Nowhere);
        while let Some((server, answer)) = self.next_state_ids(&mut round, event).await {
            match self.claim_from(&server, event, answer).await? {
                Claim::Given => return Ok(Claim::Given),
                Claim::Unsound => found = Claim::Unsound,
                Claim::Nowhere => {}
            }
        }
        Ok(found)
    }

    /// Has an event that is no part of the batch stored; whether it could be had.
    async fn get_ready(&mut self, event: &OwnedEventId) -> Result<bool, RoomError> {
        let mut itself = self.events(vec![event.clone()]).await?;
        if itself.is_empty() {
            // It may be here as an outlier.
            return Ok(self.not_stored(vec![event.clone()]).await?.is_empty());
        }
        self.deepen(&mut itself).await?;
        let (rooms, room, row) = (self.batch.rooms, self.batch.room, self.batch.row.clone());
        outlier::store(rooms, room, row, itself).await?;
        Ok(true)
    }

    async fn claim_from(
        &mut self,
        server: &ServerName,
        event: &OwnedEventId,
        answer: get_room_state_ids::v1::Response,
    ) -> Result<Claim, RoomError> {
        let mut all = answer.pdu_ids.clone();
        all.extend(answer.auth_chain_ids);
        all.sort_unstable();
        all.dedup();
        let lacking = self.not_stored(all).await?;
        let mut events = match lacking.len() {
            0 => Vec::new(),
            count if count <= FETCH_ONE_BY_ONE_MAX => self.events(lacking).await?,
            _ => self.state(server, event, lacking).await?.unwrap_or_default(),
        };
        self.deepen(&mut events).await?;
        let (rooms, room, row) = (self.batch.rooms, self.batch.room, self.batch.row.clone());
        outlier::store(rooms, room, row.clone(), events).await?;
        let mut ids = answer.pdu_ids;
        // One dead server must not keep everybody from the room's past: its members are left out.
        ids.retain(|id| !self.is_unverified_member(id));
        // An event that could not be judged is no reason to take a state without it.
        let state = sound_state(rooms.history(), (&ids, true), (room, &row.create)).await?;
        let Some(mut state) = state else { return Ok(Claim::Unsound) };
        if self.batch.get(event).is_none() {
            let itself = rooms.history().event(event).await?;
            let Some(itself) = itself.filter(|itself| itself.pdu.room_id() == room) else {
                return Ok(Claim::Unsound);
            };
            if itself.status != Status::Rejected
                && let Some((key, value)) = entry_of(&itself.pdu)
            {
                state.insert(key, value);
            }
        }
        let edits = edits(rooms.history().state_of(row.state, None).await?, state);
        let fresh = self.batch.node_map();
        let applied =
            rooms.history().ask(&fresh, |nodes| tree::apply(nodes, row.state, edits.clone())).await?;
        self.batch.give(event.clone(), applied.state, applied.nodes);
        Ok(Claim::Given)
    }
}

/// The state that those of some events make that are stored, which all of them may have to be; nothing unless they are
/// state events of the room in different places, and the room's create event is one of them. Those that were rejected
/// are left out.
pub(super) async fn sound_state(
    history: &History,
    (ids, must_be_all): (&[OwnedEventId], bool),
    (room, create): (&RoomId, &OwnedEventId),
) -> Result<Option<BTreeMap<StateKey, StateValue>>, RoomError> {
    let mut state = BTreeMap::new();
    for part in ids.chunks(EVENTS_LOOKED_THROUGH_AT_ONCE) {
        let stored = history.events_once(part).await?;
        if must_be_all && stored.iter().any(Option::is_none) {
            return Ok(None);
        }
        for event in stored.into_iter().flatten() {
            let Some((key, value)) = entry_of(&event.pdu).filter(|_| event.pdu.room_id() == room) else {
                return Ok(None);
            };
            if event.status != Status::Rejected && state.insert(key, value).is_some() {
                return Ok(None);
            }
        }
    }
    let founded = state.values().any(|value: &StateValue| value.event_id == *create);
    Ok(founded.then_some(state))
}

/// What must change in a state for it to become another.
fn edits(from: Vec<tree::Entry>, to: BTreeMap<StateKey, StateValue>) -> Vec<(StateKey, Option<StateValue>)> {
    let from: HashMap<StateKey, StateValue> =
        from.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let removed = from.keys().filter(|key| !to.contains_key(key)).map(|key| (key.clone(), None));
    let mut edits: Vec<_> = removed.collect();
    edits.extend(
        to.into_iter()
            .filter(|(key, value)| from.get(key) != Some(value))
            .map(|(key, value)| (key, Some(value))),
    );
    edits
}
