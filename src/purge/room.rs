//! Rooms that are to go.

use ruma::{OwnedUserId, RoomId};

use super::{Purge, PurgeError};
use crate::{
    history::tables::{BLOCKED, FORGOTTEN, REMOVALS, RemovalRow, RemovalStage, STRIPPED},
    log::Commit,
    types::Membership,
};

/// What is to be done with a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Nobody of this server may come into it any more.
    pub block: bool,
    /// What was said there goes; or else only its members of this server do.
    pub purge: bool,
    /// It goes although members of this server cannot leave it.
    pub force: bool,
}

/// How far the removal of a room has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalStatus {
    /// It goes on; why it has failed last.
    Active(Option<String>),
    /// This server does not know the room.
    Complete,
    /// Nobody wants the room to go.
    NotWanted,
}

impl Purge {
    /// Has a room removed: every user of this server leaves it, then it goes with everything that was said there, and
    /// with what they have noted about it. That is done after a while, a page at a time, and goes on over restarts.
    ///
    /// # Errors
    /// When this server does not know the room, or the store fails.
    pub async fn remove_room(&self, room: &RoomId, wanted: Removal) -> Result<(), PurgeError> {
        let (history, key) = (&self.0.history, (room.to_owned(),));
        let mut commit = Commit::new();
        if wanted.block && !history.is_blocked(room).await? {
            commit.put(&BLOCKED, &key, &self.now_ms());
        }
        let is_wanted = history.removal(room).await?.is_some();
        if !is_wanted && history.room(room).await?.is_some() {
            let (began, began_ms) = (self.log().head(), self.now_ms());
            let Removal { purge, force, .. } = wanted;
            commit.put(
                &REMOVALS,
                &key,
                &RemovalRow { purge, force, began, began_ms, ..RemovalRow::default() },
            );
        } else if !is_wanted && !wanted.block {
            return Err(PurgeError::NotFound);
        }
        if !commit.is_empty() {
            self.log().commit(commit).await?;
        }
        self.wake();
        Ok(())
    }

    /// Whether users of this server may come into a room is changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn block_room(&self, room: &RoomId, blocks: bool) -> Result<(), PurgeError> {
        let (mut commit, key) = (Commit::new(), (room.to_owned(),));
        match blocks {
            true => commit.put(&BLOCKED, &key, &self.now_ms()),
            false => commit.delete(&BLOCKED, &key),
        }
        self.log().commit(commit).await?;
        Ok(())
    }

    /// How far the removal of a room has come.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removal_of(&self, room: &RoomId) -> Result<RemovalStatus, PurgeError> {
        let history = &self.0.history;
        Ok(match history.removal(room).await? {
            // What is kept until other servers have heard it is nobody's business here.
            Some(RemovalRow { stage: RemovalStage::Parting, .. }) => RemovalStatus::Complete,
            Some(row) => RemovalStatus::Active(row.error),
            None if history.room(room).await?.is_none() => RemovalStatus::Complete,
            None => RemovalStatus::NotWanted,
        })
    }

    /// Goes on removing the rooms that are to go. One that cannot be removed does not stop the others.
    pub(super) async fn finish_rooms(&self) -> Result<(), PurgeError> {
        for room in self.0.history.removals().await? {
            if let Err(error) = self.go_on(&room).await {
                tracing::error!(room.id = %room, %error, "{room} could not be removed; it will be tried again");
                self.note_error(&room, &error).await?;
            }
        }
        Ok(())
    }

    async fn go_on(&self, room: &RoomId) -> Result<(), PurgeError> {
        let Some(row) = self.0.history.removal(room).await? else { return Ok(()) };
        if row.stage == RemovalStage::Leaving {
            self.empty_room(room, row.force).await?;
            match row.purge {
                true => self.0.rooms.remove(room, row).await?,
                false => {
                    let mut commit = Commit::new();
                    commit.delete(&REMOVALS, &(room.to_owned(),));
                    self.log().commit(commit).await?;
                    return Ok(());
                }
            }
        }
        while self.0.rooms.remove_some(room).await? {}
        if self.0.rooms.end_removal(room).await? {
            tracing::info!(room.id = %room, "removed {room}");
        }
        Ok(())
    }

    /// Has every user of this server leave the room, and forget it.
    async fn empty_room(&self, room: &RoomId, force: bool) -> Result<(), PurgeError> {
        let history = &self.0.history;
        let members = history.current_members(room).await?;
        let local: Vec<(OwnedUserId, Membership)> = members
            .iter()
            .filter(|(user, _)| history.is_local(user))
            .map(|(user, member)| (user.clone(), member.membership))
            .collect();
        for (user, membership) in &local {
            if matches!(membership, Membership::Join | Membership::Invite | Membership::Knock) {
                match self.0.rooms.leave(user, room, None).await {
                    Err(error) if !force => return Err(error.into()),
                    _ => {}
                }
            }
        }
        for (user, _) in local {
            let key = (user.clone(), room.to_owned());
            let mut commit = Commit::new();
            commit.put(&FORGOTTEN, &key, &());
            commit.delete(&STRIPPED, &key);
            self.0.accounts.drop_room_data(&mut commit, &user, room);
            self.log().commit(commit).await?;
        }
        Ok(())
    }

    async fn note_error(&self, room: &RoomId, error: &PurgeError) -> Result<(), PurgeError> {
        if let Some(row) = self.0.history.removal(room).await? {
            let mut commit = Commit::new();
            let row = RemovalRow { error: Some(error.to_string()), ..row };
            commit.put(&REMOVALS, &(room.to_owned(),), &row);
            self.log().commit(commit).await?;
        }
        Ok(())
    }
}
