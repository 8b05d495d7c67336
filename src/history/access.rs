//! Which state of a room a user may look at.

use ruma::{RoomId, UserId, events::StateEventType};

use super::{Boundary, History, StoredEvent};
use crate::{
    dag::{StateId, StateKey, visibility::Visibility},
    log::Audience,
    store::StoreError,
    types::Lane,
};

/// How much of a room somebody may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The state: the present one, or that of their leaving.
    pub state: StateId,
    /// Where it ends: at the head, or right behind their leaving.
    pub until: Boundary,
}

impl History {
    /// As much of a room as a local user may look at: all for members, up to their leaving for those who
    /// were members, and all for everybody if the world may read the room. `None` if they may not look,
    /// or there is no such room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reach(&self, user: &UserId, room: &RoomId) -> Result<Option<Reach>, StoreError> {
        let Some(state) = self.current_state(room).await? else { return Ok(None) };
        let all = Reach { state, until: Boundary::after(self.0.log.head()) };
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let last = lanes.intervals(&Lane::Room(room.to_owned())).last();
        if last.is_some_and(|interval| interval.closed.is_none()) || self.is_world_readable(state).await? {
            return Ok(Some(all));
        }
        match last.and_then(|interval| interval.closed) {
            Some(left) if !self.is_forgotten(user, room).await? => {
                let state = self.state_at_position(room, left).await?;
                // What was filled in there happened when they were gone.
                Ok(Some(Reach { state, until: Boundary::at(left) }))
            }
            _ => Ok(None),
        }
    }

    /// The state of a room that a local user may look at; see [`Self::reach`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn readable_state(&self, user: &UserId, room: &RoomId) -> Result<Option<StateId>, StoreError> {
        Ok(self.reach(user, room).await?.map(|reach| reach.state))
    }

    /// Whether an event is part of the current state of its room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_current(&self, event: &StoredEvent) -> Result<bool, StoreError> {
        let (Some(position), Some(state)) =
            (event.pdu.state_position(), self.current_state(event.pdu.room_id()).await?)
        else {
            return Ok(false);
        };
        let StateKey { event_type, state_key } = position.into();
        let found = self.state_entry(state, event_type, &state_key).await?;
        Ok(found.is_some_and(|value| value.event_id == event.pdu.event_id()))
    }

    /// Whether a state lets everybody read the room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_world_readable(&self, state: StateId) -> Result<bool, StoreError> {
        let setting = self.state_event(state, StateEventType::RoomHistoryVisibility, "").await?;
        Ok(Visibility::of(setting.as_ref().map(|event| &event.pdu)) == Visibility::WorldReadable)
    }
}
