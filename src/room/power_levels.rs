//! The power levels of new and of replaced rooms.

use std::collections::HashSet;

use ruma::{OwnedUserId, UserId, room_version_rules::RoomVersionRules};
use serde_json::{Map, Value, json};

/// The power of a creator in room versions where it has a bound.
const CREATOR: i64 = 100;
/// What replacing a room takes where creators have power without bound: it is for them.
pub(super) const TOMBSTONE: i64 = 150;
/// The fields that are a level each.
const LEVELS: [&str; 7] =
    ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"];
/// The largest integer in an event.
///
/// <https://spec.matrix.org/v1.19/appendices/#canonical-json>
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Power levels as recommended: state for moderators, what changes the room's nature for administrators.
///
/// `equals` get as much power as the creators, and `invite` is what inviting takes.
pub(super) fn default_levels(
    creators: &HashSet<OwnedUserId>,
    equals: &[OwnedUserId],
    invite: i64,
    rules: &RoomVersionRules,
) -> Map<String, Value> {
    let has_unbounded_creators = rules.authorization.explicitly_privilege_room_creators;
    let mut users = Map::new();
    if !has_unbounded_creators {
        users.extend(creators.iter().chain(equals).map(|user| (user.to_string(), Value::from(CREATOR))));
    }
    let tombstone = if has_unbounded_creators { TOMBSTONE } else { 100 };
    let levels = json!({
        "ban": 50,
        "events": {
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.encryption": 100,
            "m.room.history_visibility": 100,
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": tombstone,
        },
        "events_default": 0,
        "historical": 100,
        "invite": invite,
        "kick": 50,
        "redact": 50,
        "state_default": 50,
        "users": users,
        "users_default": 0,
    });
    into_map(levels)
}

/// The levels of a room that replaces another one.
pub(super) struct Inherited {
    /// Those with which everything of the old room can be set.
    pub(super) first: Map<String, Value>,
    /// Those that come after that, if they are others.
    pub(super) last: Option<Map<String, Value>>,
}

impl Inherited {
    /// What becomes of `levels` in a new room of `creators`. `founder` is who makes it, with their power in the old
    /// room, which is `i64::MAX` where it had no bound.
    pub(super) fn of(
        mut levels: Map<String, Value>,
        creators: &HashSet<OwnedUserId>,
        (founder, power): (&UserId, i64),
        rules: &RoomVersionRules,
    ) -> Self {
        let is_creator = |user: &str| <&UserId>::try_from(user).is_ok_and(|user| creators.contains(user));
        if rules.authorization.explicitly_privilege_room_creators {
            if let Some(Value::Object(users)) = levels.get_mut("users") {
                users.retain(|user, _| !is_creator(user));
            }
            if let Value::Object(events) = levels.entry("events").or_insert_with(|| json!({})) {
                events.insert(String::from("m.room.tombstone"), Value::from(TOMBSTONE));
            }
            return Self { first: levels, last: None };
        }
        // Here the founder has a level like everyone else, and must reach every other while the room is furnished.
        let needed = highest(&levels).max(CREATOR);
        let mut first = levels;
        let set = |levels: &mut Map<String, Value>, level: i64| {
            if let Value::Object(users) = levels.entry("users").or_insert_with(|| json!({})) {
                users.insert(founder.to_string(), Value::from(level));
            }
        };
        if power >= needed {
            set(&mut first, needed);
            return Self { first, last: None };
        }
        let last = first.clone();
        set(&mut first, needed);
        Self { first, last: Some(last) }
    }
}

/// The highest level that is named anywhere.
fn highest(levels: &Map<String, Value>) -> i64 {
    let named = |value: &Value| match value {
        Value::Object(levels) => levels.values().filter_map(Value::as_i64).max(),
        level => level.as_i64(),
    };
    levels.values().filter_map(named).max().unwrap_or_default()
}

/// Levels as integers, which older rooms may have as texts or fractions; what is no level at all is left out, and so is
/// who is no user.
pub(super) fn integers(levels: Map<String, Value>) -> Map<String, Value> {
    let read = |(name, value): (String, Value)| match (name.as_str(), value) {
        ("users", Value::Object(users)) => {
            let is_user = |name: &String| <&UserId>::try_from(name.as_str()).is_ok();
            let users = users.into_iter().filter(|(name, _)| is_user(name));
            let users: Map<String, Value> =
                users.filter_map(|(name, level)| Some((name, integer(&level)?))).collect();
            Some((name, Value::Object(users)))
        }
        ("events" | "notifications", Value::Object(named)) => {
            let named: Map<String, Value> =
                named.into_iter().filter_map(|(name, level)| Some((name, integer(&level)?))).collect();
            Some((name, Value::Object(named)))
        }
        (field, level) if LEVELS.contains(&field) => integer(&level).map(|level| (name, level)),
        ("users" | "events" | "notifications", _) => None,
        (_, value) => Some((name, value)),
    };
    levels.into_iter().filter_map(read).collect()
}

fn integer(level: &Value) -> Option<Value> {
    let level = match level {
        Value::Number(level) => {
            level.to_string().split('.').next().and_then(|whole| whole.parse::<i64>().ok())
        }
        Value::String(text) => text.trim().parse::<i64>().ok(),
        _ => None,
    };
    // What an event can hold.
    level.map(|level| Value::from(level.clamp(-INTEGER_MAX, INTEGER_MAX)))
}

/// The levels of a room that has been replaced: nobody but moderators speaks or invites any more.
pub(super) fn closing_levels(mut levels: Map<String, Value>) -> Map<String, Value> {
    let level = |levels: &Map<String, Value>, name: &str| levels.get(name).and_then(Value::as_i64);
    let needed = level(&levels, "users_default").unwrap_or(0).saturating_add(1).max(50);
    for name in ["events_default", "invite"] {
        let present = level(&levels, name).unwrap_or(0);
        levels.insert(String::from(name), Value::from(present.max(needed)));
    }
    levels
}

pub(super) fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
