//! The power levels of new and of replaced rooms.

use std::collections::HashSet;

use ruma::{OwnedUserId, UserId, room_version_rules::RoomVersionRules};
use serde_json::{Map, Value, json};

/// The power of a creator in room versions where it has a bound.
const CREATOR: i64 = 100;

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
    // Replacing a room is for its creators, where there are such.
    let tombstone = if has_unbounded_creators { 150 } else { 100 };
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

/// The levels of a room that replaces one with `levels`; `creators` are those of the new room.
pub(super) fn inherited_levels(
    mut levels: Map<String, Value>,
    creators: &HashSet<OwnedUserId>,
    rules: &RoomVersionRules,
) -> Map<String, Value> {
    if rules.authorization.explicitly_privilege_room_creators {
        if let Some(Value::Object(users)) = levels.get_mut("users") {
            let is_creator = |user: &str| <&UserId>::try_from(user).is_ok_and(|user| creators.contains(user));
            users.retain(|user, _| !is_creator(user));
        }
        if let Value::Object(events) = levels.entry("events").or_insert_with(|| json!({})) {
            events.insert(String::from("m.room.tombstone"), Value::from(150));
        }
        return levels;
    }
    // Here creators have a level like everyone else, and nobody can ask for more than they have.
    if let Value::Object(users) = levels.entry("users").or_insert_with(|| json!({})) {
        for creator in creators {
            let level = users.get(creator.as_str()).and_then(Value::as_i64).unwrap_or(0);
            users.insert(creator.to_string(), Value::from(level.max(CREATOR)));
        }
    }
    if let Some(Value::Object(events)) = levels.get_mut("events") {
        for level in events.values_mut() {
            if level.as_i64().is_some_and(|level| level > CREATOR) {
                *level = Value::from(CREATOR);
            }
        }
    }
    levels
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
