//! What a user keeps of a room that another one replaces: its tags, its place among the direct chats, and
//! the push rules about it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    AccountError, Accounts,
    data::{ACCOUNT_DATA, room_field},
    measure::Growth,
};
use crate::{
    limits::{ACCOUNT_DATA_BYTES_MAX, PUSH_RULES_BYTES_MAX},
    log::Commit,
    store::StoreError,
    types::{Fact, Lane},
};

const TAGS: &str = "m.tag";
const DIRECT: &str = "m.direct";
const PUSH_RULES: &str = "m.push_rules";

/// Account data to be written with the join that causes it.
#[derive(Debug)]
pub struct Inheritance {
    user: OwnedUserId,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    room: Option<OwnedRoomId>,
    event_type: &'static str,
    before: Option<Box<RawValue>>,
    after: Box<RawValue>,
}

impl Accounts {
    /// What `user` takes along from the room `old` into `new`. What they have for `new` already stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn inheritance(
        &self,
        user: &UserId,
        old: &RoomId,
        new: &RoomId,
    ) -> Result<Inheritance, AccountError> {
        let wanted = [
            (Some(old.to_owned()), TAGS.to_owned()),
            (Some(new.to_owned()), TAGS.to_owned()),
            (None, DIRECT.to_owned()),
            (None, PUSH_RULES.to_owned()),
        ];
        let mut inheritance = Inheritance { user: user.to_owned(), pieces: Vec::new() };
        let found: [_; 4] = self.data_of(user, &wanted).await?.try_into().unwrap_or_default();
        let [old_tags, new_tags, direct, rules] = found;
        if let (Some(after), None) = (old_tags, new_tags) {
            let room = Some(new.to_owned());
            inheritance.pieces.push(Piece { room, event_type: TAGS, before: None, after });
        }
        for (event_type, before, limit, follow) in [
            (DIRECT, direct, ACCOUNT_DATA_BYTES_MAX, follow_direct as fn(&mut Value, &RoomId, &RoomId)),
            (PUSH_RULES, rules, PUSH_RULES_BYTES_MAX, follow_rules),
        ] {
            let Some(before) = before else { continue };
            let Ok(content) = serde_json::from_str::<Value>(before.get()) else { continue };
            let mut changed = content.clone();
            follow(&mut changed, old, new);
            let after = to_raw_value(&changed).map_err(StoreError::engine)?;
            if changed != content && after.get().len() <= limit {
                let before = Some(before);
                inheritance.pieces.push(Piece { room: None, event_type, before, after });
            }
        }
        for Piece { room, event_type, before, after } in &inheritance.pieces {
            let (before, after) = (before.as_ref().map(|before| before.get().len()), Some(after.get().len()));
            if *event_type != PUSH_RULES {
                self.note_more(user, &Growth { room: room.as_deref(), event_type, before, after });
            }
        }
        Ok(inheritance)
    }
}

impl Inheritance {
    /// Adds to `commit` what there is to write. The commit is refused if any of it changes meanwhile.
    pub fn fill(self, commit: &mut Commit) {
        for Piece { room, event_type, before, after } in self.pieces {
            let key = (self.user.clone(), room_field(room.as_deref()), event_type.to_owned());
            match &before {
                Some(before) => commit.expect_equals(&ACCOUNT_DATA, &key, before),
                None => commit.expect_absent(&ACCOUNT_DATA, &key),
            }
            commit.put(&ACCOUNT_DATA, &key, &after);
            let fact = Fact::AccountData { room_id: room, event_type: event_type.to_owned() };
            commit.fact(Lane::Account(self.user.clone()), fact);
        }
    }
}

/// Whoever `old` is a direct chat with, `new` is one with too.
fn follow_direct(content: &mut Value, old: &RoomId, new: &RoomId) {
    let Some(users) = content.as_object_mut() else { return };
    for rooms in users.values_mut().filter_map(Value::as_array_mut) {
        if rooms.iter().any(|room| room == old.as_str()) && rooms.iter().all(|room| room != new.as_str()) {
            rooms.push(Value::from(new.as_str()));
        }
    }
}

/// Each rule about `old` has one like it about `new` right behind it.
fn follow_rules(content: &mut Value, old: &RoomId, new: &RoomId) {
    for kind in ["override", "underride", "room"] {
        let rules = content.get_mut("global").and_then(|global| global.get_mut(kind));
        let Some(rules) = rules.and_then(Value::as_array_mut) else { continue };
        let mut all = Vec::with_capacity(rules.len());
        for rule in rules.drain(..) {
            let copy = is_about(&rule, old).then(|| renamed(&rule, old, new));
            all.push(rule);
            all.extend(copy);
        }
        let mut known = std::collections::BTreeSet::new();
        all.retain(|rule| known.insert(rule["rule_id"].to_string()));
        *rules = all;
    }
}

fn is_about(rule: &Value, room: &RoomId) -> bool {
    let names = |condition: &Value| {
        condition["kind"] == "event_match"
            && condition["key"] == "room_id"
            && condition["pattern"] == room.as_str()
    };
    rule["rule_id"] == room.as_str()
        || rule["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(names))
}

fn renamed(rule: &Value, old: &RoomId, new: &RoomId) -> Value {
    let mut copy = rule.clone();
    let id = rule["rule_id"].as_str().unwrap_or_default();
    copy["rule_id"] = Value::from(match id.contains(old.as_str()) {
        true => id.replace(old.as_str(), new.as_str()),
        false => format!("{id}-{new}"),
    });
    let conditions = copy.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition["key"] == "room_id" && condition["pattern"] == old.as_str() {
            condition["pattern"] = Value::from(new.as_str());
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::{Value, json};

    use super::{follow_direct, follow_rules};

    #[test]
    fn a_direct_chat_stays_one() {
        let (old, new) = (room_id!("!old:a"), room_id!("!new:a"));
        for (before, after) in [
            (json!({ "@b:a": ["!old:a"] }), json!({ "@b:a": ["!old:a", "!new:a"] })),
            (json!({ "@b:a": ["!x:a"] }), json!({ "@b:a": ["!x:a"] })),
            (json!({ "@b:a": ["!new:a", "!old:a"] }), json!({ "@b:a": ["!new:a", "!old:a"] })),
            (json!({ "@b:a": "!old:a" }), json!({ "@b:a": "!old:a" })),
            (json!([]), json!([])),
        ] {
            let mut content: Value = before.clone();
            follow_direct(&mut content, old, new);
            assert_eq!(content, after, "{before}");
        }
    }

    #[test]
    fn rules_about_a_room_follow_it() {
        let (old, new) = (room_id!("!old:a"), room_id!("!new:a"));
        let muted = |id: &str, room: &str| {
            let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": room });
            json!({ "rule_id": id, "actions": [], "conditions": [condition] })
        };
        let simple = |room: &str| json!({ "rule_id": room, "actions": ["notify"] });
        let before = json!({ "global": {
            "override": [muted("!old:a", "!old:a"), muted("mine", "!old:a"), muted("other", "!x:a")],
            "room": [simple("!old:a"), simple("!x:a")],
        } });
        let mut content = before.clone();
        follow_rules(&mut content, old, new);
        let expected = json!({ "global": {
            "override": [
                muted("!old:a", "!old:a"), muted("!new:a", "!new:a"),
                muted("mine", "!old:a"), muted("mine-!new:a", "!new:a"), muted("other", "!x:a"),
            ],
            "room": [simple("!old:a"), simple("!new:a"), simple("!x:a")],
        } });
        assert_eq!(content, expected);
        follow_rules(&mut content, old, new);
        assert_eq!(content, expected, "once is enough");
    }
}
