//! A room for tests: builds events of any sender with one key per server, and keeps everything.

use std::collections::HashMap;

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedUserId,
    RoomVersionId, events::StateEventType, room_version_rules::RoomVersionRules, state_res::StateMap, uint,
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    Denied, Pdu, auth,
    build::{BuildError, Draft, Head, build, create_content},
    versions,
};
use crate::keys::{PublicKeyMap, SigningKey};

/// A room with `@alice:a.org` as its creator.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) version: RoomVersionId,
    pub(crate) rules: &'static RoomVersionRules,
    pub(crate) events: HashMap<OwnedEventId, Pdu>,
    pub(crate) state: StateMap<Pdu>,
    pub(crate) heads: Vec<Pdu>,
    pub(crate) now: u32,
}

/// `alice` is `@alice:a.org`; a name with a colon is whole.
pub(crate) fn user(name: &str) -> OwnedUserId {
    let id = match name.contains(':') {
        true => format!("@{name}"),
        false => format!("@{name}:a.org"),
    };
    OwnedUserId::try_from(id).unwrap()
}

pub(crate) fn signer(server: OwnedServerName) -> SigningKey {
    SigningKey::from_seed(server, "k", [1; 32]).unwrap()
}

pub(crate) fn public_keys() -> PublicKeyMap {
    ["a.org", "b.org", "c.org"]
        .into_iter()
        .flat_map(|server| signer(OwnedServerName::try_from(server).unwrap()).public_keys())
        .collect()
}

impl World {
    /// A room that has its create event and nothing else; `extra` goes into the create content.
    pub(crate) fn bare(version: &str, extra: Value) -> Self {
        let version = RoomVersionId::try_from(version).unwrap();
        let rules = versions::rules(&version).unwrap();
        let mut world = Self {
            rules,
            events: HashMap::new(),
            state: StateMap::new(),
            heads: Vec::new(),
            now: 1_000_000,
            version,
        };
        let extra: CanonicalJsonObject = serde_json::from_value(extra).unwrap();
        let content = create_content(&world.version, rules, &user("alice"), extra);
        let content = serde_json::to_value(content).unwrap();
        world.send("alice", "m.room.create", Some(""), content).unwrap();
        world
    }

    /// A room that anybody may join, with its creator in it and as its administrator.
    pub(crate) fn new(version: &str) -> Self {
        let mut world = Self::bare(version, json!({}));
        world.send("alice", "m.room.member", Some("@alice:a.org"), json!({"membership": "join"})).unwrap();
        let users = match world.rules.authorization.explicitly_privilege_room_creators {
            true => json!({}),
            false => json!({"@alice:a.org": 100}),
        };
        world.send("alice", "m.room.power_levels", Some(""), json!({"users": users})).unwrap();
        world.send("alice", "m.room.join_rules", Some(""), json!({"join_rule": "public"})).unwrap();
        world
    }

    /// Builds an event on the present heads and state, whether it is allowed or not.
    pub(crate) fn build(
        &mut self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<Pdu, BuildError> {
        self.now += 1;
        let sender = user(sender);
        let key = signer(sender.server_name().to_owned());
        let room_id = self
            .state
            .values()
            .next()
            .map(|pdu| pdu.room_id().to_owned())
            .or_else(|| "!room:a.org".try_into().ok());
        let draft = Draft {
            room_id,
            sender,
            event_type: event_type.into(),
            state_key: state_key.map(String::from),
            content: to_raw_value(&content).unwrap(),
            redacts: None,
            sticky_ms: None,
            origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(0) + self.now.into()),
        };
        let heads: Vec<_> = self.heads.iter().map(|head| Head::of(head, self.rules)).collect();
        build(draft, &heads, |event_type, key| self.at(event_type, key), self.rules, &key)
    }

    /// Sends an event if the rules allow it.
    pub(crate) fn send(
        &mut self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<Pdu, Denied> {
        let pdu = self
            .build(sender, event_type, state_key, content)
            .map_err(|error| Denied(format!("cannot be built: {error}")))?;
        auth::check(
            &pdu,
            &self.rules.authorization,
            |id| self.events.get(id).cloned(),
            |event_type, key| self.at(event_type, key),
        )?;
        self.admit(&pdu);
        Ok(pdu)
    }

    /// Takes `pdu` into the room, as its only head.
    pub(crate) fn admit(&mut self, pdu: &Pdu) {
        self.events.insert(pdu.event_id().to_owned(), pdu.clone());
        if let Some(position) = pdu.state_position() {
            self.state.insert(position, pdu.clone());
        }
        self.heads = vec![pdu.clone()];
    }

    pub(crate) fn join(&mut self, name: &str) -> Pdu {
        let id = user(name);
        self.send(name, "m.room.member", Some(id.as_str()), json!({"membership": "join"})).unwrap()
    }

    pub(crate) fn at(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        self.state.get(&(event_type.clone(), String::from(state_key))).cloned()
    }

    pub(crate) fn event(&self, id: &EventId) -> Option<Pdu> {
        self.events.get(id).cloned()
    }

    pub(crate) fn state_ids(&self) -> StateMap<OwnedEventId> {
        self.state.iter().map(|(key, pdu)| (key.clone(), pdu.event_id().to_owned())).collect()
    }
}
