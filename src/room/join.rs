//! Joining a room.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, RoomOrAliasId, UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Profile, RoomError, Rooms,
    membership::member_content,
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::types::Membership;

/// Present since restricted rooms; the rules ask for it where nobody has invited the user.
pub(super) const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

/// Whether a user may come in by what else they are in.
pub(super) enum Way {
    /// The join rule does not say.
    Ordinary,
    /// They may, on behalf of this member.
    Granted(OwnedUserId),
    /// They may not.
    Closed,
    /// It depends on rooms that this server is not in.
    Unknown,
}

impl Rooms {
    /// The room that an id or a local alias means.
    ///
    /// # Errors
    /// When it means none.
    pub async fn resolve(&self, room: &RoomOrAliasId) -> Result<OwnedRoomId, RoomError> {
        match <&RoomId>::try_from(room) {
            Ok(room) => Ok(room.to_owned()),
            Err(alias) => {
                let row = self.0.history.alias(alias).await?;
                row.map(|row| row.room_id).ok_or(RoomError::NotFound("There is no such alias"))
            }
        }
    }

    /// Joins a room; for somebody who is in it already nothing happens. `extra` goes into the member
    /// event; a name or a picture in it goes before that of the profile.
    ///
    /// # Errors
    /// Why the user cannot join.
    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        reason: Option<&str>,
        extra: Map<String, Value>,
    ) -> Result<(), RoomError> {
        self.check_open(room).await?;
        let profile = self.0.profiles.profile(user).await?;
        let content = join_content(extra, &profile, reason);
        until_settled!(self.try_join(user, room, &content))
    }

    async fn try_join(
        &self,
        user: &UserId,
        room: &RoomId,
        content: &Map<String, Value>,
    ) -> Result<(), RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        let membership = turn.membership(user).await?;
        if membership == Some(Membership::Join) {
            return Ok(());
        }
        let mut content = content.clone();
        content.remove(AUTHORISED_VIA);
        if !matches!(membership, Some(Membership::Invite | Membership::Ban)) {
            match turn.way_in(user).await? {
                Way::Ordinary => {}
                Way::Granted(by) => {
                    content.insert(String::from(AUTHORISED_VIA), Value::from(by.as_str()));
                }
                Way::Closed | Way::Unknown => {
                    return Err(RoomError::forbidden("You are in none of the rooms that let you in"));
                }
            }
        }
        turn.add(NewEvent::state(user, "m.room.member", user.as_str(), &content)?).await?;
        if let Some(old) = turn.predecessor(user).await? {
            turn.inherit(user, &old).await?;
        }
        turn.finish(None).await.map(drop)
    }

    /// Has a user who has just joined a room through another server keep what they had set for the room that
    /// it replaces.
    pub(super) async fn inherit_from_predecessor(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<(), RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        match turn.predecessor(user).await? {
            Some(old) => {
                turn.inherit(user, &old).await?;
                turn.close().await
            }
            None => Ok(()),
        }
    }
}

/// The content of a join. A name or a picture for this room alone goes before those of the profile.
pub(super) fn join_content(
    extra: Map<String, Value>,
    profile: &Profile,
    reason: Option<&str>,
) -> Map<String, Value> {
    let mut content = member_content(Membership::Join, Some(profile), None);
    content.extend(extra);
    content.extend(member_content(Membership::Join, None, reason));
    content
}

impl Turn {
    /// The room that this one replaces, if it says so too and `user` has been in it.
    async fn predecessor(&self, user: &UserId) -> Result<Option<OwnedRoomId>, RoomError> {
        #[derive(Deserialize)]
        struct Create {
            predecessor: Predecessor,
        }
        #[derive(Deserialize)]
        struct Predecessor {
            room_id: OwnedRoomId,
        }
        #[derive(Deserialize)]
        struct Tombstone {
            replacement_room: OwnedRoomId,
        }
        let history = &self.rooms.0.history;
        let create = self.place("m.room.create", "").await?;
        let Some(Create { predecessor }) = create.and_then(|create| create.content_as().ok()) else {
            return Ok(None);
        };
        let old = predecessor.room_id;
        let Some(state) = history.current_state(&old).await? else { return Ok(None) };
        let tombstone = history.state_event(state, StateEventType::RoomTombstone, "").await?;
        let replacement = tombstone.and_then(|event| event.pdu.content_as::<Tombstone>().ok());
        let agrees = replacement.is_some_and(|tombstone| tombstone.replacement_room == self.room_id);
        let membership = history.membership_in(state, user).await?;
        let was_in = matches!(membership, Some(Membership::Join | Membership::Leave));
        Ok((agrees && was_in).then_some(old))
    }

    /// Has `user` keep what they had set for `old`.
    pub(super) async fn inherit(&mut self, user: &UserId, old: &RoomId) -> Result<(), RoomError> {
        let inherited = self.rooms.0.profiles.inheritance(user, old, &self.room_id).await?;
        if let Some(inherited) = inherited {
            self.extra.push(Box::new(|commit| inherited.fill(commit)));
        }
        Ok(())
    }

    /// How `user` may come in without an invite.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>
    pub(super) async fn way_in(&self, user: &UserId) -> Result<Way, RoomError> {
        #[derive(Deserialize)]
        struct Content {
            join_rule: String,
            #[serde(default)]
            allow: Vec<Value>,
        }
        let Some(rules) = self.place("m.room.join_rules", "").await? else { return Ok(Way::Ordinary) };
        let Ok(Content { join_rule, allow }) = rules.content_as() else { return Ok(Way::Ordinary) };
        let auth = &self.rules.authorization;
        let restricted = match join_rule.as_str() {
            "restricted" => auth.restricted_join_rule,
            "knock_restricted" => auth.knock_restricted_join_rule,
            _ => false,
        };
        if !restricted {
            return Ok(Way::Ordinary);
        }
        let mut way = Way::Closed;
        for condition in &allow {
            let room = condition.get("room_id").and_then(Value::as_str);
            let is_membership = condition.get("type").and_then(Value::as_str) == Some("m.room_membership");
            let Some(room) = room.filter(|_| is_membership).and_then(|room| <&RoomId>::try_from(room).ok())
            else {
                continue;
            };
            // A user of ours is in no room that this server is not in.
            if !self.rooms.0.history.is_local(user) && !self.rooms.is_here(room).await? {
                way = Way::Unknown;
                continue;
            }
            let membership = self.rooms.0.history.membership(room, user).await?;
            if membership == Some(Membership::Join) {
                return self.granter().await.map(Way::Granted);
            }
        }
        Ok(way)
    }

    /// A local member with the power to invite, preferably the most powerful.
    async fn granter(&self) -> Result<OwnedUserId, RoomError> {
        let history = &self.rooms.0.history;
        let power = self.power().await?;
        let state = self.base.as_ref().map_or(self.row.state, |base| base.state);
        let members = history.members(&self.room_id, state).await?;
        let found = members
            .with(Membership::Join)
            .filter(|member| history.is_local(member) && power.may_invite(member))
            .max_by_key(|member| power.user(member));
        found.cloned().ok_or(RoomError::UnableToGrantJoin)
    }
}
