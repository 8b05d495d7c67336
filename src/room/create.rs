//! Founding a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#creation>

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use ruma::{
    CanonicalJsonObject, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, RoomVersionId,
    UserId, api::client::room::create_room::v3::RoomPreset, room_version_rules::RoomVersionRules,
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Profile, RoomError, Rooms,
    membership::member_content,
    power_levels::{TOMBSTONE, default_levels},
    state::{aliases, membership},
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::{
    dag::{build::create_content, versions},
    history::tables::{ALIASES, AliasRow, PUBLISHED, PublishedRow, ROOM_ALIASES},
    limits::CREATE_INVITES_AT_ONCE,
    store::BoxFuture,
    types::{Membership, random_string},
};

/// A room as somebody wants it.
#[derive(Clone, Debug, Default)]
pub struct NewRoom {
    /// The room version, if not the usual one.
    pub version: Option<RoomVersionId>,
    /// Whether it goes into the public directory.
    pub is_public: bool,
    /// Who may enter and what they may read; follows from `is_public` if absent.
    pub preset: Option<RoomPreset>,
    /// The local part of an alias.
    pub alias_name: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// Whom to invite.
    pub invite: Vec<OwnedUserId>,
    /// Whether it is a conversation with those invited.
    pub is_direct: bool,
    /// More for the create event.
    pub creation_content: Map<String, Value>,
    /// State events: type, state key and content.
    pub initial_state: Vec<(String, String, Box<RawValue>)>,
    /// Power levels that replace the recommended ones, by field.
    pub power_levels: Map<String, Value>,
}

/// What a preset stands for.
struct Rules {
    join_rule: &'static str,
    guest_access: Option<&'static str>,
    invite: i64,
    /// Whether those invited are as powerful as the creator.
    trusts: bool,
}

impl NewRoom {
    fn rules(&self) -> Result<Rules, RoomError> {
        let usual = if self.is_public { RoomPreset::PublicChat } else { RoomPreset::PrivateChat };
        let open = Rules { join_rule: "public", guest_access: None, invite: 50, trusts: false };
        let closed = Rules { join_rule: "invite", guest_access: Some("can_join"), invite: 0, trusts: false };
        match self.preset.clone().unwrap_or(usual) {
            RoomPreset::PublicChat => Ok(open),
            RoomPreset::PrivateChat => Ok(closed),
            RoomPreset::TrustedPrivateChat => Ok(Rules { trusts: true, ..closed }),
            _ => Err(RoomError::invalid("The preset is unknown")),
        }
    }

    fn sets(&self, event_type: &str) -> bool {
        self.initial_state.iter().any(|(found, key, _)| found == event_type && key.is_empty())
    }

    /// Whom the room has as creators beside the one who makes it, in versions that know such.
    fn add_creators(&self, creator: &UserId, extra: &mut Map<String, Value>) {
        let present = extra.get("additional_creators").and_then(Value::as_array).cloned();
        let mut creators = present.unwrap_or_default();
        for user in self.invite.iter().filter(|user| *user != creator) {
            if !creators.iter().any(|known| known.as_str() == Some(user.as_str())) {
                creators.push(Value::from(user.as_str()));
            }
        }
        if !creators.is_empty() {
            extra.insert(String::from("additional_creators"), Value::Array(creators));
        }
    }
}

impl Rooms {
    /// Founds a room; answers with its id.
    ///
    /// # Errors
    /// Why it cannot be founded.
    pub async fn create(&self, creator: &UserId, mut room: NewRoom) -> Result<OwnedRoomId, RoomError> {
        let alias = room.alias_name.as_deref().map(|name| self.local_alias(name)).transpose()?;
        let mut named = HashSet::from([creator.to_owned()]);
        room.invite.retain(|user| named.insert(user.clone()));
        let room_id = until_settled!(self.try_create(creator, &room, alias.clone()))?;
        self.invite_others(creator, &room_id, &room).await;
        Ok(room_id)
    }

    /// Invites the users of other servers. The room is there; whom it could not be told to can be invited again.
    async fn invite_others(&self, creator: &UserId, room_id: &RoomId, room: &NewRoom) {
        let others = room.invite.iter().filter(|user| !self.0.history.is_local(user));
        let invites = others.map(|user| async move {
            let content = invite_content(None, room.is_direct);
            if let Err(error) = self.invite_remote(creator, room_id, user, content).await {
                tracing::info!(room.id = %room_id, user.id = %user, %error, "could not invite {user}");
            }
        });
        let invites: Vec<_> = invites.map(|invite| Box::pin(invite) as BoxFuture<'_, ()>).collect();
        stream::iter(invites).buffer_unordered(CREATE_INVITES_AT_ONCE).collect::<()>().await;
    }

    async fn try_create(
        &self,
        creator: &UserId,
        room: &NewRoom,
        alias: Option<OwnedRoomAliasId>,
    ) -> Result<OwnedRoomId, RoomError> {
        if let Some(alias) = &alias
            && self.0.history.alias(alias).await?.is_some()
        {
            return Err(RoomError::AliasInUse);
        }
        for user in room.invite.iter().filter(|user| self.0.history.is_local(user)) {
            self.check_invitable(user, creator, None).await?;
        }
        let version = room.version.clone().unwrap_or(versions::DEFAULT);
        let rules =
            versions::rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let preset = room.rules()?;
        let mut extra = room.creation_content.clone();
        if preset.trusts && rules.authorization.explicitly_privilege_room_creators {
            room.add_creators(creator, &mut extra);
        }
        let mut turn = self.found_room(creator, version, extra).await?;
        turn.fill_new(creator, room, (&preset, alias.as_deref())).await.map_err(|error| match error {
            // What the creator wants does not go together.
            RoomError::Forbidden(why) => RoomError::InvalidState(why),
            error => error,
        })?;
        if let Some(alias) = alias {
            let creator = creator.to_owned();
            let row = AliasRow { room_id: turn.room_id.clone(), creator };
            turn.extra.push(Box::new(move |commit| {
                let room = row.room_id.clone();
                commit.expect_absent(&ALIASES, &(alias.clone(),));
                commit.put(&ALIASES, &(alias.clone(),), &row);
                commit.put(&ROOM_ALIASES, &(room, alias), &());
            }));
        }
        if room.is_public {
            let (room, row) = (turn.room_id.clone(), PublishedRow { by: creator.to_owned() });
            turn.extra.push(Box::new(move |commit| commit.put(&PUBLISHED, &(room,), &row)));
        }
        let room_id = turn.room_id.clone();
        turn.finish(None).await?;
        Ok(room_id)
    }

    /// A room that has its create event and nothing else.
    pub(super) async fn found_room(
        &self,
        creator: &UserId,
        version: RoomVersionId,
        extra: Map<String, Value>,
    ) -> Result<Turn, RoomError> {
        let rules =
            versions::rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let create = self.create_event(creator, &version, extra)?;
        let room = self.new_room_id(rules)?;
        Turn::found(self, version, room, create).await
    }

    /// The create event of a room.
    pub(super) fn create_event(
        &self,
        creator: &UserId,
        version: &RoomVersionId,
        extra: Map<String, Value>,
    ) -> Result<NewEvent, RoomError> {
        let rules = versions::rules(version).ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let extra: CanonicalJsonObject = serde_json::from_value(Value::Object(extra))
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        let content = create_content(version, rules, &creator.to_owned(), extra);
        NewEvent::state(creator, "m.room.create", "", &content)
    }

    /// A room id, where the create event does not make it.
    pub(super) fn new_room_id(&self, rules: &RoomVersionRules) -> Result<Option<OwnedRoomId>, RoomError> {
        if !rules.event_format.require_room_create_room_id {
            return Ok(None);
        }
        let local = random_string(&*self.0.ports.rng, 18);
        let id = format!("!{local}:{}", self.0.history.server());
        OwnedRoomId::try_from(id).map(Some).map_err(|_| RoomError::invalid("The server name is too long"))
    }

    fn local_alias(&self, name: &str) -> Result<OwnedRoomAliasId, RoomError> {
        let malformed = || RoomError::invalid("The alias is malformed");
        if name.is_empty() || name.contains([':', '#', '\0']) || name.chars().any(char::is_whitespace) {
            return Err(malformed());
        }
        let alias = format!("#{name}:{}", self.0.history.server());
        match alias.len() <= crate::limits::ID_BYTES_MAX {
            true => OwnedRoomAliasId::try_from(alias).map_err(|_| malformed()),
            false => Err(malformed()),
        }
    }
}

fn invite_content(profile: Option<&Profile>, is_direct: bool) -> Map<String, Value> {
    let mut content = member_content(Membership::Invite, profile, None);
    if is_direct {
        content.insert(String::from("is_direct"), Value::Bool(true));
    }
    content
}

impl Turn {
    /// Puts everything into a room that has nothing but its create event.
    async fn fill_new(
        &mut self,
        creator: &UserId,
        room: &NewRoom,
        (preset, alias): (&Rules, Option<&RoomAliasId>),
    ) -> Result<(), RoomError> {
        self.enter(creator).await?;
        self.set_levels(creator, room, preset).await?;
        self.set_nature(creator, room, (preset, alias)).await?;
        self.invite_all(creator, room).await
    }

    /// The creator comes in.
    pub(super) async fn enter(&mut self, creator: &UserId) -> Result<(), RoomError> {
        let profile = self.rooms.0.profiles.profile(creator).await?;
        let content = member_content(Membership::Join, Some(&profile), None);
        self.add(NewEvent::state(creator, "m.room.member", creator.as_str(), &content)?).await.map(drop)
    }

    /// Whom the room has as creators.
    pub(super) async fn creators(&self) -> Result<HashSet<OwnedUserId>, RoomError> {
        Ok(self.power().await?.creators().clone())
    }

    async fn set_levels(
        &mut self,
        creator: &UserId,
        room: &NewRoom,
        preset: &Rules,
    ) -> Result<(), RoomError> {
        let given = room
            .initial_state
            .iter()
            .find(|(found, key, _)| found == "m.room.power_levels" && key.is_empty());
        if let Some((event_type, key, content)) = given {
            return self.add(NewEvent::state(creator, event_type, key, content)?).await.map(drop);
        }
        let creators = self.creators().await?;
        let equals = if preset.trusts { room.invite.as_slice() } else { &[] };
        let mut levels = default_levels(&creators, equals, preset.invite, self.rules);
        levels.extend(room.power_levels.clone());
        if self.rules.authorization.explicitly_privilege_room_creators
            && let Some(Value::Object(events)) = levels.get_mut("events")
        {
            // Who says nothing of it does not want others to replace the room.
            events.entry("m.room.tombstone").or_insert_with(|| Value::from(TOMBSTONE));
        }
        let names_creator = levels
            .get("users")
            .and_then(Value::as_object)
            .is_some_and(|users| creators.iter().any(|creator| users.contains_key(creator.as_str())));
        if names_creator && self.rules.authorization.explicitly_privilege_room_creators {
            return Err(RoomError::invalid("The power of the room's creators cannot be set"));
        }
        self.add(NewEvent::state(creator, "m.room.power_levels", "", &levels)?).await.map(drop)
    }

    /// What says what kind of room it is, in the order of the specification.
    async fn set_nature(
        &mut self,
        creator: &UserId,
        room: &NewRoom,
        (preset, alias): (&Rules, Option<&RoomAliasId>),
    ) -> Result<(), RoomError> {
        let mut events = Vec::new();
        if let Some(alias) = alias.filter(|_| !room.sets("m.room.canonical_alias")) {
            events.push(("m.room.canonical_alias", json!({ "alias": alias })));
        }
        events.extend([
            ("m.room.join_rules", json!({ "join_rule": preset.join_rule })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
        ]);
        // Without an event no guest may join.
        if let Some(guest_access) = preset.guest_access {
            events.push(("m.room.guest_access", json!({ "guest_access": guest_access })));
        }
        for (event_type, content) in events {
            if !room.sets(event_type) {
                self.add(NewEvent::state(creator, event_type, "", &content)?).await?;
            }
        }
        for (event_type, key, content) in &room.initial_state {
            if event_type == "m.room.power_levels" && key.is_empty() {
                continue;
            }
            if event_type == "m.room.member" && membership(content) == Some(Membership::Invite) {
                return Err(RoomError::invalid("Users are invited by `invite`"));
            }
            if event_type == "m.room.canonical_alias"
                && aliases(content)?.iter().any(|found| Some(&**found) != alias)
            {
                return Err(RoomError::BadAlias(String::from("An alias is not of this room")));
            }
            self.add(NewEvent::state(creator, event_type, key, content)?).await?;
        }
        if let Some(name) = &room.name {
            self.add(NewEvent::state(creator, "m.room.name", "", &json!({ "name": name }))?).await?;
        }
        if let Some(topic) = &room.topic {
            let content = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
            self.add(NewEvent::state(creator, "m.room.topic", "", &content)?).await?;
        }
        Ok(())
    }

    async fn invite_all(&mut self, creator: &UserId, room: &NewRoom) -> Result<(), RoomError> {
        for user in &room.invite {
            if !self.rooms.0.history.is_local(user) {
                continue;
            }
            let profile = self.rooms.0.profiles.profile(user).await?;
            let content = invite_content(Some(&profile), room.is_direct);
            self.add(NewEvent::state(creator, "m.room.member", user.as_str(), &content)?).await?;
        }
        Ok(())
    }
}
