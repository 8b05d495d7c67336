//! Room aliases, and the public directory.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use ruma::{OwnedRoomAliasId, RoomAliasId, RoomId, UserId};
use serde_json::{Map, Value, value::RawValue};

use super::{
    RoomError, Rooms,
    power_levels::into_map,
    state::aliases,
    turn::{NewEvent, Turn},
};
use crate::{
    dag::StateId,
    history::tables::{ALIASES, AliasRow, PUBLISHED, PUBLISHED_IN, PublishedRow, ROOM_ALIASES},
    limits::{ALIASES_PER_ROOM_MAX, CANONICAL_ALIASES_ASKED_MAX, ID_BYTES_MAX},
    log::{Commit, CommitError},
    store::BoxFuture,
};

const CANONICAL: &str = "m.room.canonical_alias";

impl Rooms {
    /// Makes an alias of this server point to a room.
    ///
    /// # Errors
    /// [`RoomError::AliasInUse`] if it points somewhere already; else why not.
    pub async fn put_alias(
        &self,
        user: &UserId,
        alias: &RoomAliasId,
        room: &RoomId,
    ) -> Result<(), RoomError> {
        if alias.server_name() != self.0.history.server() {
            return Err(RoomError::invalid("The alias is of another server"));
        }
        if alias.as_str().len() > ID_BYTES_MAX {
            return Err(RoomError::invalid("The alias is too long"));
        }
        if self.0.history.alias(alias).await?.is_some() {
            return Err(RoomError::AliasInUse);
        }
        if self.0.history.room(room).await?.is_none() {
            return Err(RoomError::NotFound("This server does not know the room"));
        }
        if !self.0.history.is_joined(room, user).await? {
            return Err(RoomError::forbidden("You are not in the room"));
        }
        if self.0.history.aliases(room).await?.len() >= ALIASES_PER_ROOM_MAX {
            return Err(RoomError::invalid("The room has too many aliases"));
        }
        let mut commit = Commit::new();
        commit.expect_absent(&ALIASES, &(alias.to_owned(),));
        let row = AliasRow { room_id: room.to_owned(), creator: user.to_owned() };
        commit.put(&ALIASES, &(alias.to_owned(),), &row);
        commit.put(&ROOM_ALIASES, &(room.to_owned(), alias.to_owned()), &());
        match self.0.history.log().commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict(_)) => Err(RoomError::AliasInUse),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an alias: for its maker, and for those who may say which aliases a room goes by. The
    /// room stops going by it, if the user has the power for that.
    ///
    /// # Errors
    /// Why it cannot be removed.
    pub async fn delete_alias(&self, user: &UserId, alias: &RoomAliasId) -> Result<(), RoomError> {
        let row = self.0.history.alias(alias).await?;
        let row = row.ok_or(RoomError::NotFound("There is no such alias"))?;
        let room = row.room_id.clone();
        if row.creator != user && !self.manages(user, &room).await? {
            return Err(RoomError::forbidden("You may not remove the alias"));
        }
        let mut commit = Commit::new();
        commit.expect_equals(&ALIASES, &(alias.to_owned(),), &row);
        commit.delete(&ALIASES, &(alias.to_owned(),));
        commit.delete(&ROOM_ALIASES, &(room.clone(), alias.to_owned()));
        self.0.history.log().commit(commit).await?;
        match self.drop_canonical(user, &room, alias).await {
            // Without that power the room keeps naming it; the alias itself is gone all the same.
            Ok(()) | Err(RoomError::Forbidden(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn drop_canonical(
        &self,
        user: &UserId,
        room: &RoomId,
        alias: &RoomAliasId,
    ) -> Result<(), RoomError> {
        let mut turn = Turn::begin_as_member(self, room).await?;
        let Some(present) = turn.place(CANONICAL, "").await? else { return Ok(()) };
        let before: Map<String, Value> = present.content_as().unwrap_or_default();
        let mut content = before.clone();
        if content.get("alias").and_then(Value::as_str) == Some(alias.as_str()) {
            content.remove("alias");
        }
        if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
            others.retain(|other| other.as_str() != Some(alias.as_str()));
        }
        if content == before {
            return Ok(());
        }
        turn.add(NewEvent::state(user, CANONICAL, "", &content)?).await?;
        turn.finish(None).await.map(drop)
    }

    /// The aliases that this server has for a room, for those who may look into it.
    ///
    /// # Errors
    /// When the user may not.
    pub async fn list_aliases(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Vec<OwnedRoomAliasId>, RoomError> {
        if !self.0.history.is_joined(room, user).await? {
            let state = self.0.history.current_state(room).await?.unwrap_or(StateId::EMPTY);
            if !self.0.history.is_world_readable(state).await? {
                return Err(RoomError::forbidden("You are not in the room"));
            }
        }
        Ok(self.0.history.aliases(room).await?)
    }

    /// Has every alias of this server that points to `from` point to `to`; nobody is asked whether they may.
    ///
    /// # Errors
    /// When somebody changes one of them at this moment, or the store fails.
    pub async fn move_aliases_to(&self, from: &RoomId, to: &RoomId) -> Result<(), RoomError> {
        let mut commit = Commit::new();
        for alias in self.0.history.aliases(from).await? {
            let Some(row) = self.0.history.alias(&alias).await? else { continue };
            let moved = AliasRow { room_id: to.to_owned(), ..row.clone() };
            commit.expect_equals(&ALIASES, &(alias.clone(),), &row);
            commit.put(&ALIASES, &(alias.clone(),), &moved);
            commit.delete(&ROOM_ALIASES, &(from.to_owned(), alias.clone()));
            commit.put(&ROOM_ALIASES, &(to.to_owned(), alias), &());
        }
        if !commit.is_empty() {
            self.0.history.log().commit(commit).await?;
        }
        Ok(())
    }

    /// Puts a room into the public directory, or takes it out.
    ///
    /// # Errors
    /// When the user may not say how the room is known.
    pub async fn publish(&self, user: &UserId, room: &RoomId, is_public: bool) -> Result<(), RoomError> {
        if self.0.history.room(room).await?.is_none() {
            return Err(RoomError::NotFound("This server does not know the room"));
        }
        if !self.manages(user, room).await? {
            return Err(RoomError::forbidden("You may not say where the room is listed"));
        }
        let mut commit = Commit::new();
        let key = (room.to_owned(),);
        match is_public {
            true => commit.put(&PUBLISHED, &key, &PublishedRow { by: user.to_owned() }),
            false => commit.delete(&PUBLISHED, &key),
        }
        self.0.history.log().commit(commit).await?;
        Ok(())
    }

    /// Puts a room into the directory of a network beyond Matrix, or takes it out. Who may is decided before.
    ///
    /// # Errors
    /// When this server does not know the room.
    pub async fn publish_in(&self, network: &str, room: &RoomId, is_public: bool) -> Result<(), RoomError> {
        if self.0.history.room(room).await?.is_none() {
            return Err(RoomError::NotFound("This server does not know the room"));
        }
        let mut commit = Commit::new();
        let key = (network.to_owned(), room.to_owned());
        match is_public {
            true => commit.put(&PUBLISHED_IN, &key, &()),
            false => commit.delete(&PUBLISHED_IN, &key),
        }
        self.0.history.log().commit(commit).await?;
        Ok(())
    }

    /// Whether `user` is in the room and may say by which aliases it goes.
    async fn manages(&self, user: &UserId, room: &RoomId) -> Result<bool, RoomError> {
        if !self.0.history.is_joined(room, user).await? {
            return Ok(false);
        }
        let power = Turn::begin(self, room).await?.power().await?;
        Ok(power.user(user) >= power.to_send(&CANONICAL.into(), Some("")))
    }

    /// Which aliases of other servers that a room is to go by from now on point to it, by the word of those servers.
    pub(super) async fn confirmed(
        &self,
        user: &UserId,
        room: &RoomId,
        content: &RawValue,
    ) -> Result<BTreeSet<OwnedRoomAliasId>, RoomError> {
        let (history, mut wanted) = (&self.0.history, aliases(content)?);
        wanted.retain(|alias| alias.server_name() != history.server());
        if wanted.is_empty() {
            return Ok(wanted);
        }
        // Nobody else has other servers asked.
        if !history.is_joined(room, user).await? {
            return Err(RoomError::forbidden("You are not in the room"));
        }
        if let Some(state) = history.current_state(room).await?
            && let Some(present) = history.state_event(state, CANONICAL.into(), "").await?
        {
            let present = aliases(present.pdu.content()).unwrap_or_default();
            wanted.retain(|alias| !present.contains(alias));
        }
        if wanted.len() > CANONICAL_ALIASES_ASKED_MAX {
            return Err(RoomError::BadAlias(String::from("These are too many aliases of other servers")));
        }
        let asking = wanted.into_iter().map(|alias| async move {
            match self.alias(&alias).await {
                Ok((found, _)) => Ok((found == *room).then_some(alias)),
                Err(RoomError::NotFound(_) | RoomError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let asking: Vec<_> =
            asking.map(|asking| Box::pin(asking) as BoxFuture<'_, Result<_, RoomError>>).collect();
        let found: Vec<_> = stream::iter(asking).buffered(CANONICAL_ALIASES_ASKED_MAX).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The content of a state event as it is now, as a map; empty if there is none.
    pub(super) async fn content_of(turn: &Turn, event_type: &str) -> Result<Map<String, Value>, RoomError> {
        let pdu = turn.place(event_type, "").await?;
        Ok(pdu.and_then(|pdu| pdu.content_as().ok()).map(into_map).unwrap_or_default())
    }
}
