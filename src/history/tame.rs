//! What clients are told of events over which some of them fall.
//!
//! What an event says is for the room's rules alone, and other servers get it as it is. A client that stumbles over it can
//! show none of its user's rooms any more, by the invite of a stranger; so the few values that are known to do that, and
//! mean no more to the rules of rooms than another one, are told as that one.

use std::borrow::Cow;

use ruma::events::TimelineEventType;
use serde_json::{Map, Value};

use crate::limits::LEVEL_TOLD_MIN;

/// The join rules that there are in any version of rooms.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mroomjoin_rules>
const JOIN_RULES: [&str; 6] = ["public", "invite", "knock", "private", "restricted", "knock_restricted"];

/// The content of an event as clients get it, which is nearly always as it is.
pub fn tame<'a>(event_type: &TimelineEventType, content: &'a str) -> Cow<'a, str> {
    let changed = match event_type {
        TimelineEventType::RoomJoinRules => join_rules(content),
        TimelineEventType::RoomPowerLevels => power_levels(content),
        _ => None,
    };
    changed.map_or(Cow::Borrowed(content), |content| Cow::Owned(Value::Object(content).to_string()))
}

/// A rule that no version knows lets nobody in, as `private` does. Clients with matrix-rust-sdk before 0.16 cannot store
/// it, and end their sync (CVE-2025-66622).
fn join_rules(content: &str) -> Option<Map<String, Value>> {
    let mut content: Map<String, Value> = serde_json::from_str(content).ok()?;
    let rule = content.get_mut("join_rule")?;
    if rule.as_str().is_none_or(|rule| JOIN_RULES.contains(&rule)) {
        return None;
    }
    *rule = "private".into();
    Some(content)
}

/// Whoever has a level below this may do nothing, as with the level itself. Clients with matrix-rust-sdk before 0.14.1 end
/// when they compare the lowest ones with those of others (CVE-2025-59047).
fn power_levels(content: &str) -> Option<Map<String, Value>> {
    // A string may spell it in another way.
    if !content.contains('-') && !content.contains("\\u") {
        return None;
    }
    let mut content: Map<String, Value> = serde_json::from_str(content).ok()?;
    let mut is_changed = content.get_mut("users_default").is_some_and(raise);
    if let Some(users) = content.get_mut("users").and_then(Value::as_object_mut) {
        for level in users.values_mut() {
            is_changed |= raise(level);
        }
    }
    is_changed.then_some(content)
}

/// In the older versions of rooms a level may be a string, or a number with a fraction; clients read those too.
fn raise(level: &mut Value) -> bool {
    let number = match &*level {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let is_low = number.is_some_and(|number| number < LEVEL_TOLD_MIN as f64);
    if is_low {
        *level = LEVEL_TOLD_MIN.into();
    }
    is_low
}

#[cfg(test)]
mod tests {
    use ruma::events::TimelineEventType;
    use serde_json::{Value, json};

    use super::{LEVEL_TOLD_MIN, tame};

    #[track_caller]
    fn check(event_type: &str, content: Value, expected: Value) {
        let told = tame(&TimelineEventType::from(event_type), &content.to_string()).into_owned();
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), expected);
    }

    #[test]
    fn what_makes_clients_fall_is_told_as_what_it_comes_to() {
        let (rules, levels) = ("m.room.join_rules", "m.room.power_levels");
        check(rules, json!({ "join_rule": "x.custom", "a": 1 }), json!({ "join_rule": "private", "a": 1 }));
        for same in ["public", "invite", "knock", "private", "restricted", "knock_restricted"] {
            check(rules, json!({ "join_rule": same }), json!({ "join_rule": same }));
        }
        for same in [json!({}), json!({ "join_rule": 5 }), json!([])] {
            check(rules, same.clone(), same);
        }
        let lowest = -9_007_199_254_740_991_i64;
        check(
            levels,
            json!({ "users": { "@a:b": lowest, "@c:b": -1, "@d:b": "-5" }, "users_default": lowest, "ban": lowest }),
            json!({
                "users": { "@a:b": LEVEL_TOLD_MIN, "@c:b": -1, "@d:b": "-5" },
                "users_default": LEVEL_TOLD_MIN, "ban": lowest,
            }),
        );
        for low in [json!(" -9007199254740991 "), json!("-9e15"), json!(-9.5e15), json!("-90071992547410")] {
            let told = json!({ "users": { "@a:b": LEVEL_TOLD_MIN } });
            check(levels, json!({ "users": { "@a:b": low } }), told);
        }
        let spelled = r#"{"users_default":"\u002d9007199254740991"}"#;
        let told = tame(&TimelineEventType::from(levels), spelled).into_owned();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told, json!({ "users_default": LEVEL_TOLD_MIN }));
        for same in [json!("-90071992547409"), json!(-1.5), json!("-x"), json!("100"), json!(null)] {
            let content = json!({ "users": { "@a:b": same, "@c:b": -1 } });
            check(levels, content.clone(), content);
        }
        check(levels, json!({ "users": [] }), json!({ "users": [] }));
        check("m.room.message", json!({ "join_rule": "x" }), json!({ "join_rule": "x" }));
    }
}
