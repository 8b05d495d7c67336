//! Rooms that are to go.

use std::time::Duration;

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, api::client::room::create_room::v3::RoomPreset,
    events::TimelineEventType,
};
use serde_json::{Map, json, value::to_raw_value};

use super::{Purge, PurgeError};
use crate::{
    history::{
        RemovalWalk,
        tables::{BLOCKED, FORGOTTEN, REMOVALS, RemovalRow, RemovalStage, STRIPPED},
    },
    limits::REMOVAL_PAUSE_MAX,
    log::Commit,
    room::{Message, NewRoom},
    store::StoreError,
    types::Membership,
};

/// How a room is called that is made for those who have to leave another.
const SUCCESSOR_NAME: &str = "A room was closed";
/// What they are told there.
const SUCCESSOR_MESSAGE: &str = "A room in which you were was closed by those who run this server.";

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

/// A room that is made for those who have to leave another.
#[derive(Clone, Debug)]
pub struct Successor {
    /// Who makes it and speaks there: a user of this server.
    pub by: OwnedUserId,
    /// Its name, if not the usual one.
    pub name: Option<String>,
    /// What is said there, if not the usual.
    pub message: Option<String>,
}

/// What becomes of a room that is to go.
#[derive(Clone, Debug, Default)]
pub struct RemovalBegun {
    /// The users of this server who are in it.
    pub members: Vec<OwnedUserId>,
    /// The aliases of this server that point to it.
    pub aliases: Vec<OwnedRoomAliasId>,
    /// The room that they come into, and the aliases point to.
    pub successor: Option<OwnedRoomId>,
}

/// How far the removal of a room has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalStatus {
    /// It goes on.
    Active {
        /// Why it has failed last.
        error: Option<String>,
        /// The room that its members come into.
        successor: Option<OwnedRoomId>,
    },
    /// This server does not know the room.
    Complete,
    /// Nobody wants the room to go.
    NotWanted,
}

impl Purge {
    /// Has a room removed: every user of this server leaves it, then it goes with everything that was said there, and
    /// with what they have noted about it. That is done after a while, a page at a time, and goes on over restarts. With
    /// a successor they are in that one then. What was begun before goes on as it was wanted.
    ///
    /// # Errors
    /// When this server does not know the room, the successor cannot be made, or the store fails.
    pub async fn remove_room(
        &self,
        room: &RoomId,
        wanted: Removal,
        successor: Option<Successor>,
    ) -> Result<RemovalBegun, PurgeError> {
        let (history, key) = (&self.0.history, (room.to_owned(),));
        let (before, is_known) = (history.removal(room).await?, history.room(room).await?.is_some());
        let is_new = before.is_none() && is_known;
        if before.is_none() && !is_known && !wanted.block {
            return Err(PurgeError::NotFound);
        }
        let mut begun =
            RemovalBegun { successor: before.and_then(|row| row.successor), ..RemovalBegun::default() };
        let mut commit = Commit::new();
        if wanted.block && !history.is_blocked(room).await? {
            commit.put(&BLOCKED, &key, &self.now_ms());
        }
        if is_new {
            begun = self.plan_removal(room, successor).await?;
            let Removal { purge, force, .. } = wanted;
            let (began, began_ms) = (self.log().head(), self.now_ms());
            let row = RemovalRow { purge, force, began, began_ms, ..RemovalRow::default() };
            commit.put(&REMOVALS, &key, &RemovalRow { successor: begun.successor.clone(), ..row });
        }
        if !commit.is_empty() {
            self.log().commit(commit).await?;
        }
        self.wake();
        Ok(begun)
    }

    /// Waits until the removal of a room is complete or has failed, at most this long.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removed(&self, room: &RoomId, most: Duration) -> Result<(), PurgeError> {
        let waiting = async {
            loop {
                let looked_at = self.0.looked_at.notified();
                if !matches!(self.removal_of(room).await?, RemovalStatus::Active { error: None, .. }) {
                    return Ok(());
                }
                looked_at.await;
            }
        };
        tokio::time::timeout(most, waiting).await.unwrap_or(Ok(()))
    }

    async fn plan_removal(
        &self,
        room: &RoomId,
        successor: Option<Successor>,
    ) -> Result<RemovalBegun, PurgeError> {
        let history = &self.0.history;
        let members = history.current_members(room).await?;
        let local = members
            .iter()
            .filter(|(user, member)| history.is_local(user) && member.membership == Membership::Join);
        let members = local.map(|(user, _)| user.clone()).collect();
        let successor = match successor {
            Some(successor) => Some(self.found_successor(successor).await?),
            None => None,
        };
        Ok(RemovalBegun { members, aliases: history.aliases(room).await?, successor })
    }

    /// Makes the room for those who have to leave another: they can read there why, and say nothing.
    async fn found_successor(&self, successor: Successor) -> Result<OwnedRoomId, PurgeError> {
        let Successor { by, name, message } = successor;
        let new = NewRoom {
            preset: Some(RoomPreset::PublicChat),
            name: Some(name.unwrap_or_else(|| SUCCESSOR_NAME.to_owned())),
            power_levels: Map::from_iter([("users_default".to_owned(), json!(-10))]),
            ..NewRoom::default()
        };
        let room = self.0.rooms.create(&by, new).await?;
        let body = message.unwrap_or_else(|| SUCCESSOR_MESSAGE.to_owned());
        let content =
            to_raw_value(&json!({ "msgtype": "m.text", "body": body })).map_err(StoreError::engine)?;
        let said = Message { event_type: TimelineEventType::RoomMessage, content, txn: None };
        self.0.rooms.send(&by, &room, said).await?;
        Ok(room)
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
            Some(row) => RemovalStatus::Active { error: row.error, successor: row.successor },
            None if history.room(room).await?.is_none() => RemovalStatus::Complete,
            None => RemovalStatus::NotWanted,
        })
    }

    /// Goes on removing the rooms that are to go. One that cannot be removed does not stop the others.
    pub(super) async fn finish_rooms(&self) -> Result<(), PurgeError> {
        let rooms = self.0.history.removals().await?;
        if rooms.is_empty() {
            return Ok(());
        }
        for room in &rooms {
            if let Err(error) = self.leave_room(room).await {
                self.note_error(room, &error).await;
            }
        }
        if let Err(error) = self.remove_events().await {
            for room in &rooms {
                self.note_error(room, &error).await;
            }
        }
        for room in &rooms {
            if let Err(error) = self.end_room(room).await {
                self.note_error(room, &error).await;
            }
        }
        self.0.looked_at.notify_waiters();
        Ok(())
    }

    /// Removes the events of the rooms that nobody knows any more.
    async fn remove_events(&self) -> Result<(), PurgeError> {
        let (clock, mut walk) = (&self.0.ports.clock, RemovalWalk::default());
        loop {
            let begun = clock.monotonic();
            if !self.0.rooms.remove_some(&mut walk).await? {
                return Ok(());
            }
            // The store is there for others too, at least half of the time.
            let took = clock.monotonic().saturating_sub(begun);
            tokio::time::sleep(took.min(REMOVAL_PAUSE_MAX)).await;
        }
    }

    /// Has the users of this server leave a room, which nobody knows after that.
    async fn leave_room(&self, room: &RoomId) -> Result<(), PurgeError> {
        let row = self.0.history.removal(room).await?.filter(|row| row.stage == RemovalStage::Leaving);
        let Some(row) = row else { return Ok(()) };
        if let Some(successor) = &row.successor {
            self.0.rooms.move_aliases_to(room, successor).await?;
        }
        self.empty_room(room, (row.force, row.successor.as_deref())).await?;
        if row.purge {
            return Ok(self.0.rooms.remove(room, row).await?);
        }
        let mut commit = Commit::new();
        commit.delete(&REMOVALS, &(room.to_owned(),));
        self.log().commit(commit).await?;
        Ok(())
    }

    /// Removes what is left of a room whose events are gone.
    async fn end_room(&self, room: &RoomId) -> Result<(), PurgeError> {
        let row = self.0.history.removal(room).await?;
        if row.is_none_or(|row| row.stage == RemovalStage::Leaving) {
            return Ok(());
        }
        self.0.delayed.forget_room(room).await?;
        if self.0.rooms.end_removal(room).await? {
            tracing::info!(room.id = %room, "removed {room}");
        }
        Ok(())
    }

    /// Has every user of this server leave the room, and forget it; those who are in it come into its successor first,
    /// so that nobody is lost who is cut off.
    async fn empty_room(
        &self,
        room: &RoomId,
        (force, successor): (bool, Option<&RoomId>),
    ) -> Result<(), PurgeError> {
        let history = &self.0.history;
        let members = history.current_members(room).await?;
        let local: Vec<(OwnedUserId, Membership)> = members
            .iter()
            .filter(|(user, _)| history.is_local(user))
            .map(|(user, member)| (user.clone(), member.membership))
            .collect();
        for (user, membership) in &local {
            if *membership == Membership::Join
                && let Some(successor) = successor
                && let Err(error) = self.0.rooms.join(user, successor, None, Map::new()).await
            {
                tracing::warn!(user.id = %user, room.id = %successor, %error, "{user} could not come along");
            }
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

    /// Says why a room is still there, also to those who wanted it gone.
    async fn note_error(&self, room: &RoomId, error: &PurgeError) {
        tracing::error!(room.id = %room, %error, "{room} could not be removed; it will be tried again");
        if let Err(error) = self.write_error(room, error).await {
            tracing::warn!(room.id = %room, %error, "cannot write down why {room} could not be removed");
        }
    }

    async fn write_error(&self, room: &RoomId, error: &PurgeError) -> Result<(), PurgeError> {
        if let Some(row) = self.0.history.removal(room).await? {
            let mut commit = Commit::new();
            let row = RemovalRow { error: Some(error.to_string()), ..row };
            commit.put(&REMOVALS, &(room.to_owned(),), &row);
            self.log().commit(commit).await?;
        }
        Ok(())
    }
}
