//! Removing a room for good.

use ruma::RoomId;

use super::{RoomError, Rooms};
use crate::history::{RemovalWalk, tables::RemovalRow};

impl Rooms {
    /// Refuses if users of this server may not come into a room: it is blocked, or is being removed.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if so.
    pub(super) async fn check_open(&self, room: &RoomId) -> Result<(), RoomError> {
        match self.0.history.is_closed(room).await? {
            true => Err(RoomError::forbidden("The room is blocked on this server")),
            false => Ok(()),
        }
    }

    /// Removes a room that no user of this server is in: from now on this server does not know it. Its events go
    /// piece by piece, by [`Self::remove_some`] and [`Self::end_removal`].
    ///
    /// # Errors
    /// When a user of this server is in it, or the store fails.
    pub async fn remove(&self, room: &RoomId, row: RemovalRow) -> Result<(), RoomError> {
        let mut guard = self.0.slots.lock(room).await;
        let known = self.0.history.reload_room(room).await?;
        if known.is_some_and(|row| row.joined > row.remote) && !row.force {
            return Err(RoomError::forbidden("Users of this server are in the room"));
        }
        self.0.history.begin_removal(room, row, self.moment().0.into()).await?;
        guard.ahead.row = None;
        guard.ahead.epoch += 1;
        Ok(())
    }

    /// Removes some of what is left of the rooms that were removed; whether there may be more. A `walk` is for the rooms
    /// that were removed when it began.
    ///
    /// # Errors
    /// When the store fails; another walk goes on.
    pub async fn remove_some(&self, walk: &mut RemovalWalk) -> Result<bool, RoomError> {
        Ok(self.0.history.remove_some(walk).await?)
    }

    /// Removes the last of a room that was removed, unless other servers are to hear it first; whether it is gone.
    ///
    /// # Errors
    /// When the store fails; the next call goes on.
    pub async fn end_removal(&self, room: &RoomId) -> Result<bool, RoomError> {
        Ok(self.0.history.end_removal(room, self.moment().0.into()).await?)
    }
}
