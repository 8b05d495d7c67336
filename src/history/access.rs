//! Which state of a room a user may look at.

use ruma::{RoomId, UserId, events::StateEventType};

use super::History;
use crate::{
    dag::{StateId, visibility::Visibility},
    log::Audience,
    store::StoreError,
    types::Lane,
};

impl History {
    /// The state of a room that a local user may look at: the present one for members, that of their
    /// leaving for those who were members, and the present one for everybody if the world may read the
    /// room. `None` if they may not look, or there is no such room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn readable_state(&self, user: &UserId, room: &RoomId) -> Result<Option<StateId>, StoreError> {
        let Some(present) = self.current_state(room).await? else { return Ok(None) };
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let last = lanes.intervals(&Lane::Room(room.to_owned())).last();
        if last.is_some_and(|interval| interval.closed.is_none()) || self.is_world_readable(present).await? {
            return Ok(Some(present));
        }
        match last.and_then(|interval| interval.closed) {
            Some(closed) => Ok(Some(self.state_at_position(room, closed).await?)),
            None => Ok(None),
        }
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
