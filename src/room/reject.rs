//! Rejecting many invites at once.

use ruma::{OwnedServerName, OwnedUserId, RoomId, UserId};

use super::{RoomError, Rooms};
use crate::{limits::INVITES_REJECTED_MAX, types::Membership};

/// Whose invites are meant: everybody's if nothing is said.
#[derive(Clone, Debug, Default)]
pub struct InvitedBy {
    /// Those of one user.
    pub sender: Option<OwnedUserId>,
    /// Those of the users of one server.
    pub server: Option<OwnedServerName>,
}

impl InvitedBy {
    fn includes(&self, sender: &UserId) -> bool {
        self.sender.as_ref().is_none_or(|wanted| wanted == sender)
            && self.server.as_ref().is_none_or(|wanted| wanted == sender.server_name())
    }
}

/// What became of invites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many were rejected.
    pub rejected: usize,
    /// How many could not be.
    pub failed: usize,
    /// Whether there are others, for which there was no room in this call.
    pub more: bool,
}

impl Rooms {
    /// Rejects the invites of `user`, a local one, that are `by` somebody, but for one to the room `spared`: together with
    /// what is `done` already 1,000 at most. They are gone at once; other servers are told afterwards.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reject_invites(
        &self,
        user: &UserId,
        by: &InvitedBy,
        spared: Option<&RoomId>,
        mut done: Rejected,
    ) -> Result<Rejected, RoomError> {
        for entry in self.0.history.memberships(user).await? {
            if entry.membership != Membership::Invite || spared == Some(&*entry.room_id) {
                continue;
            }
            let Some(event) = self.0.history.sound_event(&entry.event_id).await? else { continue };
            if !by.includes(event.pdu.sender()) {
                continue;
            }
            if done.rejected >= INVITES_REJECTED_MAX {
                done.more = true;
                break;
            }
            match self.reject_invite(user, &entry.room_id).await {
                Ok(()) => done.rejected += 1,
                Err(error @ (RoomError::Store(_) | RoomError::Closed)) => return Err(error),
                Err(error) => {
                    let room = &entry.room_id;
                    tracing::warn!(room.id = %room, user.id = %user, %error, "an invite of {user} stays");
                    done.failed += 1;
                }
            }
        }
        Ok(done)
    }

    async fn reject_invite(&self, user: &UserId, room: &RoomId) -> Result<(), RoomError> {
        match !self.is_here(room).await? || self.stands_outside(user, room).await? {
            true => self.leave_outside_untold(user, room).await,
            false => self.leave(user, room, None).await,
        }
    }
}
