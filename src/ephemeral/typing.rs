//! Who is typing where.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::collections::HashMap;

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{Ephemeral, EphemeralError};
use crate::{
    limits::{TYPING_MS_DEFAULT, TYPING_MS_MAX, TYPING_TOLD_EVERY_MS},
    log::Commit,
    types::{Fact, Lane},
};

/// Everyone who is typing, by room.
#[derive(Default)]
pub(super) struct Typing(Mutex<State>);

#[derive(Default)]
struct State {
    rooms: HashMap<OwnedRoomId, Vec<Typist>>,
    /// Counts changes of lists.
    changes: u64,
}

/// Somebody who types.
struct Typist {
    user: OwnedUserId,
    until: u64,
    /// Since when other servers have not been told of it.
    told_at: u64,
}

impl Typing {
    /// Sets until when a user types, or that they do not. True if the room's list is another now.
    pub(super) fn set(&self, room: &RoomId, user: &UserId, (now, until): (u64, Option<u64>)) -> bool {
        let mut state = self.0.lock();
        if until.is_none() && !state.rooms.contains_key(room) {
            return false;
        }
        let list = state.rooms.entry(room.to_owned()).or_default();
        let at = list.iter().position(|typist| typist.user == user);
        let changed = match (at, until) {
            (Some(at), Some(until)) => {
                list[at].until = until;
                false
            }
            (Some(at), None) => {
                list.remove(at);
                true
            }
            (None, Some(until)) => {
                list.push(Typist { user: user.to_owned(), until, told_at: now });
                true
            }
            (None, None) => false,
        };
        if list.is_empty() {
            state.rooms.remove(room);
        }
        state.changes += u64::from(changed);
        changed
    }

    /// Ends what has lasted to `now`; the rooms whose list is another now.
    pub(super) fn expire(&self, now: u64) -> Vec<OwnedRoomId> {
        let mut state = self.0.lock();
        let mut changed = Vec::new();
        state.rooms.retain(|room, list| {
            let before = list.len();
            list.retain(|typist| typist.until > now);
            if list.len() < before {
                changed.push(room.clone());
            }
            !list.is_empty()
        });
        state.changes += u64::from(!changed.is_empty());
        changed
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.0.lock().rooms.values().flatten().map(|typist| typist.until).min()
    }

    /// Whether other servers are to be told that a user types on.
    fn take_due(&self, room: &RoomId, user: &UserId, now: u64) -> bool {
        let mut state = self.0.lock();
        let mut typists = state.rooms.get_mut(room).into_iter().flatten();
        let due = typists
            .find(|typist| typist.user == user && now.saturating_sub(typist.told_at) >= TYPING_TOLD_EVERY_MS);
        due.map(|typist| typist.told_at = now).is_some()
    }

    fn list(&self, room: &RoomId) -> (Vec<OwnedUserId>, u64) {
        let state = self.0.lock();
        let users = state.rooms.get(room).into_iter().flatten().map(|typist| typist.user.clone());
        (users.collect(), state.changes)
    }
}

impl Ephemeral {
    /// `user` types in `room` for as long as they say (`None` for the usual time), or stops.
    ///
    /// # Errors
    /// When the user is not in the room.
    pub async fn set_typing(
        &self,
        room: &RoomId,
        user: &UserId,
        typing: Option<Option<u64>>,
    ) -> Result<(), EphemeralError> {
        self.only_members(room, user).await?;
        let now = self.now_ms();
        let until = typing.map(|ms| now + ms.unwrap_or(TYPING_MS_DEFAULT).clamp(1, TYPING_MS_MAX));
        if typing.is_some() {
            self.note_activity(user).await?;
        }
        let changed = self.0.typing.set(room, user, (now, until));
        self.0.sooner.notify_one();
        match changed {
            true => self.tell_typing(room).await,
            false if self.0.typing.take_due(room, user, now) => self.tell_servers(room).await,
            false => Ok(()),
        }
    }

    /// The user has sent something to `room`, so they are active. Whether they type on, their client says.
    pub async fn note_event(&self, room: &RoomId, user: &UserId) {
        // What the user did is done.
        if let Err(error) = self.note_activity(user).await {
            tracing::debug!("could not tell what {user} does in {room}: {error}");
        }
    }

    /// The user has left `room`, so they type there no more.
    pub async fn note_leave(&self, room: &RoomId, user: &UserId) {
        self.note_removal(room, user).await;
        self.note_event(room, user).await;
    }

    /// Somebody has taken the user out of `room`, so they type there no more.
    pub async fn note_removal(&self, room: &RoomId, user: &UserId) {
        let told = match self.0.typing.set(room, user, (self.now_ms(), None)) {
            true => self.tell_typing(room).await,
            false => Ok(()),
        };
        // Who types expires by itself.
        if let Err(error) = told {
            tracing::debug!("could not tell that {user} types in {room} no more: {error}");
        }
    }

    /// Who types in `room`, in the order in which they began.
    #[must_use]
    pub fn typing(&self, room: &RoomId) -> Vec<OwnedUserId> {
        self.0.typing.list(room).0
    }

    /// Has other servers told of those who type on: they forget it after a while.
    async fn tell_servers(&self, room: &RoomId) -> Result<(), EphemeralError> {
        while self.0.history.room(room).await?.is_some_and(|room| room.remote > 0) {
            let mut commit = Commit::new();
            let (user_ids, changes) = self.0.typing.list(room);
            commit.fact(Lane::Egress(room.to_owned()), Fact::Typing { user_ids });
            self.0.log.commit(commit).await?;
            // As in `tell_typing`: whoever has stopped meanwhile has been told of before this was written, perhaps.
            if self.0.typing.list(room).1 == changes {
                break;
            }
        }
        Ok(())
    }

    /// Writes the present list. Whoever sees it change meanwhile writes again, so that the last fact
    /// written is right in whatever order the commits of several requests end.
    pub(super) async fn tell_typing(&self, room: &RoomId) -> Result<(), EphemeralError> {
        loop {
            let (user_ids, changes) = self.0.typing.list(room);
            let mut commit = Commit::new();
            commit.fact(Lane::Room(room.to_owned()), Fact::Typing { user_ids: user_ids.clone() });
            if self.0.history.room(room).await?.is_some_and(|room| room.remote > 0) {
                commit.fact(Lane::Egress(room.to_owned()), Fact::Typing { user_ids: user_ids.clone() });
            }
            self.0.log.commit(commit).await?;
            let (now, changes_now) = self.0.typing.list(room);
            if changes_now == changes || now == user_ids {
                return Ok(());
            }
        }
    }
}
