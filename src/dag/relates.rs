//! How an event relates to another: edits, reactions, threads, replies.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::pdu::Pdu;

/// What `m.relates_to` says. A part that is malformed counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// `rel_type` and the event it points to.
    pub parent: Option<(String, OwnedEventId)>,
    /// The `key` of an annotation.
    pub key: Option<String>,
    /// Whether a reply in a thread is there only for clients that know no threads.
    pub is_falling_back: bool,
    /// The event replied to.
    pub in_reply_to: Option<OwnedEventId>,
}

impl Relation {
    /// The root of the thread that the event belongs to.
    #[must_use]
    pub fn thread_root(&self) -> Option<&EventId> {
        self.to("m.thread")
    }

    /// The event that is replaced.
    #[must_use]
    pub fn replaces(&self) -> Option<&EventId> {
        self.to("m.replace")
    }

    /// The event that is annotated, and with what.
    #[must_use]
    pub fn annotates(&self) -> Option<(&EventId, &str)> {
        Some((self.to("m.annotation")?, self.key.as_deref()?))
    }

    /// The parent, if the relation is of type `rel_type`.
    #[must_use]
    pub fn to(&self, rel_type: &str) -> Option<&EventId> {
        self.parent.as_ref().filter(|(found, _)| found == rel_type).map(|(_, id)| &**id)
    }
}

/// The relation that `pdu` has; `None` if it has none.
#[must_use]
pub fn of(pdu: &Pdu) -> Option<Relation> {
    of_content(pdu.content())
}

/// The relation that an event with this content has.
#[must_use]
pub fn of_content(content: &RawValue) -> Option<Relation> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: Value,
    }
    // Most events have none, and looking for the name is cheaper than reading the content.
    if !content.get().contains("m.relates_to") {
        return None;
    }
    let relates_to = serde_json::from_str::<Content>(content.get()).ok()?.relates_to;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(String::from);
    let id =
        |value: Option<&Value>| value.and_then(Value::as_str).and_then(|id| OwnedEventId::try_from(id).ok());
    let parent = text(relates_to.get("rel_type")).zip(id(relates_to.get("event_id")));
    let in_reply_to = id(relates_to.get("m.in_reply_to").and_then(|reply| reply.get("event_id")));
    if parent.is_none() && in_reply_to.is_none() {
        return None;
    }
    Some(Relation {
        parent,
        key: text(relates_to.get("key")),
        is_falling_back: relates_to.get("is_falling_back").and_then(Value::as_bool).unwrap_or(false),
        in_reply_to,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Relation, of};
    use crate::dag::world::World;

    #[track_caller]
    fn check(relates_to: Value, expected: &str) {
        let content = json!({"body": "x", "m.relates_to": relates_to});
        let pdu = World::new("12").build("alice", "m.room.message", None, content).unwrap();
        let Relation { parent, key, is_falling_back, in_reply_to } = of(&pdu).unwrap_or_default();
        let (kind, id) = parent.unzip();
        let words = [kind, id.map(String::from), key, in_reply_to.map(|id| format!("re {id}"))];
        let mut found: Vec<String> = words.into_iter().flatten().collect();
        found.extend(is_falling_back.then(|| String::from("fallback")));
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn relations_are_read() {
        check(json!({"rel_type": "m.annotation", "event_id": "$a", "key": "👍"}), "m.annotation $a 👍");
        check(json!({"rel_type": "m.replace", "event_id": "$a"}), "m.replace $a");
        check(json!({"m.in_reply_to": {"event_id": "$b"}}), "re $b");
        let thread = json!({"rel_type": "m.thread", "event_id": "$a", "is_falling_back": true,
            "m.in_reply_to": {"event_id": "$b"}});
        check(thread, "m.thread $a re $b fallback");
        for malformed in [json!(1), json!([]), json!({}), json!({"rel_type": "x"}), json!({"event_id": "$a"})]
        {
            check(malformed, "");
        }
        check(json!({"rel_type": "x", "event_id": 3, "m.in_reply_to": "$b"}), "");
        check(json!({"rel_type": 4, "event_id": "$a", "m.in_reply_to": {"event_id": "$b"}}), "re $b");
    }
}
