//! Replacing a room by one of another version.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use ruma::{OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId, events::StateEventType};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    RoomError, Rooms,
    power_levels::{Inherited, closing_levels, default_levels, integers},
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::{
    dag::{Pdu, versions},
    history::tables::{ALIASES, AliasRow, PUBLISHED, ROOM_ALIASES},
    types::Membership,
};

/// State that goes with the room, beside the power levels.
const CARRIED: [&str; 11] = [
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
    "m.room.server_acl",
    "m.room.policy",
    "m.room.pinned_events",
    "m.room.retention",
];
/// State about other rooms that goes with the room: the children of a space, and the spaces that it is in.
const RELATED: [StateEventType; 2] = [StateEventType::SpaceChild, StateEventType::SpaceParent];

/// What a room upgrade is to make.
struct Plan<'a> {
    user: &'a UserId,
    version: RoomVersionId,
    additional_creators: &'a [OwnedUserId],
}

impl Rooms {
    /// Replaces `room` by a new one of `version`; answers with its id. The state that says what kind of
    /// room it is, bans, aliases and the place in the directory go over; the members follow by
    /// themselves.
    ///
    /// # Errors
    /// Why it cannot be replaced.
    pub async fn upgrade(
        &self,
        user: &UserId,
        room: &RoomId,
        version: RoomVersionId,
        additional_creators: &[OwnedUserId],
    ) -> Result<OwnedRoomId, RoomError> {
        self.whole(room).await?;
        let plan = Plan { user, version, additional_creators };
        until_settled!(self.try_upgrade(room, &plan))
    }

    async fn try_upgrade(&self, room: &RoomId, plan: &Plan<'_>) -> Result<OwnedRoomId, RoomError> {
        let rules = versions::rules(&plan.version)
            .ok_or_else(|| RoomError::UnsupportedVersion(plan.version.clone()))?;
        let mut old = Turn::begin_as_member(self, room).await?;
        if old.membership(plan.user).await? != Some(Membership::Join) {
            return Err(RoomError::forbidden("You are not in the room"));
        }
        let levels = integers(Self::content_of(&old, "m.room.power_levels").await?);
        let power = old.power().await?.user(plan.user);
        let mut create = old.create_to_carry(plan).await?;
        // A room whose id is the hash of its create event cannot be named before that is made, so the
        // tombstone comes after it; in older versions the create event names the tombstone.
        let mut new = match self.new_room_id(rules)? {
            None => {
                let new = self.found_room(plan.user, plan.version.clone(), create).await?;
                old.entomb(plan.user, &new.room_id).await?;
                new
            }
            Some(id) => {
                let tombstone = old.entomb(plan.user, &id).await?;
                if let Some(predecessor) = create.get_mut("predecessor").and_then(Value::as_object_mut) {
                    predecessor.insert(String::from("event_id"), Value::from(tombstone.as_str()));
                }
                self.found_room_as(plan.user, (plan.version.clone(), id), create).await?
            }
        };
        new.enter(plan.user).await?;
        new.inherit(plan.user, room).await?;
        let last = new.inherit_levels((plan.user, power), levels.clone()).await?;
        new.furnish(plan.user, &old).await?;
        let aliases = self.0.history.aliases(room).await?;
        self.move_aliases(&mut old, &mut new, (plan.user, aliases)).await?;
        if let Some(last) = last {
            new.add(NewEvent::state(plan.user, "m.room.power_levels", "", &last)?).await?;
        }
        if self.0.history.published(room).await?.is_some() {
            let (from, to) = (old.room_id.clone(), new.room_id.clone());
            let by = plan.user.to_owned();
            new.extra.push(Box::new(move |commit| {
                commit.delete(&PUBLISHED, &(from,));
                commit.put(&PUBLISHED, &(to,), &crate::history::tables::PublishedRow { by });
            }));
        }
        let closing = closing_levels(levels);
        match old.add(NewEvent::state(plan.user, "m.room.power_levels", "", &closing)?).await {
            // Who may replace the room may still lack the power to close it.
            Ok(_) | Err(RoomError::Forbidden(_)) => {}
            Err(error) => return Err(error),
        }
        let id = new.room_id.clone();
        new.finish_both(old).await?;
        Ok(id)
    }

    /// As [`Self::found_room`], with an id that is known already.
    async fn found_room_as(
        &self,
        creator: &UserId,
        (version, id): (RoomVersionId, OwnedRoomId),
        extra: Map<String, Value>,
    ) -> Result<Turn, RoomError> {
        let create = self.create_event(creator, &version, extra)?;
        Turn::found(self, version, Some(id), create).await
    }

    async fn move_aliases(
        &self,
        old: &mut Turn,
        new: &mut Turn,
        (user, aliases): (&UserId, Vec<ruma::OwnedRoomAliasId>),
    ) -> Result<(), RoomError> {
        let canonical = Self::content_of(old, "m.room.canonical_alias").await?;
        if !canonical.is_empty() {
            new.add(NewEvent::state(user, "m.room.canonical_alias", "", &canonical)?).await?;
            match old.add(NewEvent::state(user, "m.room.canonical_alias", "", &json!({}))?).await {
                Ok(_) | Err(RoomError::Forbidden(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for alias in aliases {
            let Some(row) = self.0.history.alias(&alias).await? else { continue };
            let moved = AliasRow { room_id: new.room_id.clone(), ..row.clone() };
            let (from, to) = (old.room_id.clone(), new.room_id.clone());
            new.extra.push(Box::new(move |commit| {
                commit.expect_equals(&ALIASES, &(alias.clone(),), &row);
                commit.put(&ALIASES, &(alias.clone(),), &moved);
                commit.delete(&ROOM_ALIASES, &(from, alias.clone()));
                commit.put(&ROOM_ALIASES, &(to, alias), &());
            }));
        }
        Ok(())
    }
}

impl Turn {
    /// The content of the new room's create event.
    async fn create_to_carry(&self, plan: &Plan<'_>) -> Result<Map<String, Value>, RoomError> {
        let mut content = Rooms::content_of(self, "m.room.create").await?;
        for name in ["predecessor", "creator", "room_version", "additional_creators"] {
            content.remove(name);
        }
        content.insert(String::from("predecessor"), json!({ "room_id": self.room_id }));
        if !plan.additional_creators.is_empty() {
            content.insert(String::from("additional_creators"), json!(plan.additional_creators));
        }
        Ok(content)
    }

    async fn entomb(&mut self, user: &UserId, new: &RoomId) -> Result<ruma::OwnedEventId, RoomError> {
        let content = json!({ "body": "This room has been replaced", "replacement_room": new });
        self.add(NewEvent::state(user, "m.room.tombstone", "", &content)?).await
    }

    /// Gives this new room the levels of the old one, and its founder, who had `power` there, what it takes to furnish
    /// it; the levels that are to be set after that, if they are others.
    async fn inherit_levels(
        &mut self,
        (user, power): (&UserId, i64),
        levels: Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, RoomError> {
        let creators = self.creators().await?;
        let levels = match levels.is_empty() {
            true => Inherited { first: default_levels(&creators, &[], 50, self.rules), last: None },
            false => Inherited::of(levels, &creators, (user, power), self.rules),
        };
        self.add(NewEvent::state(user, "m.room.power_levels", "", &levels.first)?).await?;
        Ok(levels.last)
    }

    /// Puts the state of `old` into this new room, but for its power levels.
    async fn furnish(&mut self, user: &UserId, old: &Turn) -> Result<(), RoomError> {
        for event_type in CARRIED {
            if let Some(pdu) = old.place(event_type, "").await? {
                self.carry(user, &pdu).await?;
            }
        }
        let history = self.rooms.0.history.clone();
        let state = old.base.as_ref().map_or(old.row.state, |base| base.state);
        for event_type in RELATED {
            for event in history.state_events(state, Some(&event_type)).await? {
                self.carry(user, &event.pdu).await?;
            }
        }
        let members = history.members(&old.room_id, state).await?;
        for banned in members.with(Membership::Ban) {
            if let Some(pdu) = old.place("m.room.member", banned.as_str()).await? {
                self.carry(user, &pdu).await?;
            }
        }
        Ok(())
    }

    /// Sets what `pdu` set in the old room; what this version does not take is left behind.
    async fn carry(&mut self, user: &UserId, pdu: &Pdu) -> Result<(), RoomError> {
        let content: &RawValue = pdu.content();
        let key = pdu.state_key().unwrap_or_default();
        match self.add(NewEvent::state(user, &pdu.event_type().to_string(), key, &content)?).await {
            Ok(_) | Err(RoomError::Forbidden(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
