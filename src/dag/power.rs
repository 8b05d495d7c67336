//! Who has how much power in a room, as the authorisation rules count it.

use std::collections::HashSet;

use ruma::{
    OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use super::pdu::Pdu;

/// The power of a room creator since version 12, which no level reaches.
const INFINITE: i64 = i64::MAX;

/// The power levels of one state of a room. What is absent or malformed counts as its default.
pub struct Power<'a> {
    levels: Option<RoomPowerLevelsEvent<Pdu>>,
    creators: HashSet<OwnedUserId>,
    rules: &'a AuthorizationRules,
}

impl<'a> Power<'a> {
    /// The power levels in `state`.
    pub fn of(state: impl Fn(&StateEventType, &str) -> Option<Pdu>, rules: &'a AuthorizationRules) -> Self {
        let creators = state(&StateEventType::RoomCreate, "")
            .and_then(|create| RoomCreateEvent::new(create).creators(rules).ok());
        let levels = state(&StateEventType::RoomPowerLevels, "").map(RoomPowerLevelsEvent::new);
        Self { levels, creators: creators.unwrap_or_default(), rules }
    }

    /// The creators of the room; since version 12 their power has no bound.
    #[must_use]
    pub fn creators(&self) -> &HashSet<OwnedUserId> {
        &self.creators
    }

    /// The power of `user`; `i64::MAX` for a creator since version 12.
    #[must_use]
    pub fn user(&self, user: &UserId) -> i64 {
        let creator = self.creators.contains(user);
        if creator && self.rules.explicitly_privilege_room_creators {
            return INFINITE;
        }
        match &self.levels {
            Some(levels) => levels.user_power_level(user, self.rules).map_or(0, i64::from),
            None if creator => 100,
            None => 0,
        }
    }

    /// The power that sending an event takes.
    #[must_use]
    pub fn to_send(&self, event_type: &TimelineEventType, state_key: Option<&str>) -> i64 {
        let field = match state_key {
            Some(_) => RoomPowerLevelsIntField::StateDefault,
            None => RoomPowerLevelsIntField::EventsDefault,
        };
        let named = self
            .levels
            .as_ref()
            .and_then(|levels| levels.event_power_level(event_type, state_key, self.rules).ok());
        named.unwrap_or_else(|| field.default_value()).into()
    }

    /// The power that `field` demands.
    #[must_use]
    pub fn level(&self, field: RoomPowerLevelsIntField) -> i64 {
        let level =
            self.levels.as_ref().and_then(|levels| levels.get_as_int_or_default(field, self.rules).ok());
        level.unwrap_or_else(|| field.default_value()).into()
    }

    /// Whether `user` may redact what others sent.
    #[must_use]
    pub fn may_redact_others(&self, user: &UserId) -> bool {
        self.user(user) >= self.level(RoomPowerLevelsIntField::Redact)
    }

    /// Whether `user` may invite.
    #[must_use]
    pub fn may_invite(&self, user: &UserId) -> bool {
        self.user(user) >= self.level(RoomPowerLevelsIntField::Invite)
    }

    /// The power that `key` of the notification levels demands; `room` is the only key in use.
    #[must_use]
    pub fn notification(&self, key: &str) -> i64 {
        let found = self.levels.as_ref().and_then(|levels| levels.notifications(self.rules).ok().flatten());
        found.and_then(|map| map.get(key).copied()).map_or(50, i64::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Power;
    use crate::dag::world::{World, user};

    #[test]
    fn power_is_counted_by_version() {
        for (version, creator, stranger) in [("1", 100, 0), ("11", 100, 0), ("12", i64::MAX, 0)] {
            let bare = World::bare(version, json!({}));
            let power = Power::of(|t, k| bare.at(t, k), &bare.rules.authorization);
            assert_eq!(power.user(&user("alice")), creator);
            assert_eq!(power.user(&user("bob")), stranger);
            assert_eq!(power.to_send(&"m.room.name".into(), Some("")), 50);

            let mut world = World::new(version);
            let users = if version == "12" {
                json!({"@bob:b.org": 20})
            } else {
                json!({"@alice:a.org": 100, "@bob:b.org": 20})
            };
            let content = json!({"users": users, "events": {"m.room.name": 20}, "redact": 20, "invite": 21});
            world.send("alice", "m.room.power_levels", Some(""), content).unwrap();
            let power = Power::of(|t, k| world.at(t, k), &world.rules.authorization);
            let bob = user("bob:b.org");
            assert_eq!(power.user(&user("alice")), creator);
            assert_eq!(power.user(&bob), 20);
            assert!(power.may_redact_others(&bob));
            assert!(!power.may_invite(&bob));
            assert_eq!(power.to_send(&"m.room.name".into(), Some("")), 20);
            assert_eq!(power.to_send(&"m.room.topic".into(), Some("")), 50);
            assert_eq!(power.to_send(&"m.room.message".into(), None), 0);
            assert_eq!(power.notification("room"), 50);
        }
    }
}
