//! Which of a user's push rules applies to an event: whatever is in the rules and in the event, without a panic, and
//! never for long without giving others their turn.

use ruma::push::{
    AnyPushRuleRef, ConditionalPushRule, PatternedPushRule, PushCondition, PushConditionRoomCtx, Ruleset,
};

use super::{
    glob::{self, Extent},
    seen::Seen,
};
use crate::limits::{PUSH_PATTERN_BYTES_MAX, PUSH_STEPS_PER_TURN};

/// Rules that an event with `m.mentions` has no use for.
const OLD_MENTIONS: [&str; 2] = [".m.rule.contains_display_name", ".m.rule.roomnotif"];
const OLD_MENTION_BY_PATTERN: &str = ".m.rule.contains_user_name";
const BODY: &str = "content.body";
/// What a condition costs that has to read the log, in steps.
const READ_STEPS: usize = 1_000;

/// How much has been done.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Steps in all.
    pub(super) steps: usize,
    /// How often others had their turn.
    pub(super) turns: usize,
}

impl Meter {
    async fn spend(&mut self, steps: usize) {
        self.steps += steps;
        if self.steps / PUSH_STEPS_PER_TURN > self.turns {
            self.turns = self.steps / PUSH_STEPS_PER_TURN;
            tokio::task::yield_now().await;
        }
    }
}

/// The first of `rules` that applies to an event in a room.
pub(super) async fn first_match<'r>(
    rules: &'r Ruleset,
    seen: &Seen,
    room: &PushConditionRoomCtx,
    meter: &mut Meter,
) -> Option<AnyPushRuleRef<'r>> {
    let name =
        Some(room.user_display_name.to_lowercase()).filter(|name| name.len() <= PUSH_PATTERN_BYTES_MAX);
    let mut look = Look { seen, room, name, meter };
    for rule in rules {
        if rule.enabled() && look.applies(rule).await {
            return Some(rule);
        }
    }
    None
}

/// One event, looked at for one user.
struct Look<'a> {
    seen: &'a Seen,
    room: &'a PushConditionRoomCtx,
    /// The user's display name, unless it is too long.
    name: Option<String>,
    meter: &'a mut Meter,
}

impl Look<'_> {
    async fn applies(&mut self, rule: AnyPushRuleRef<'_>) -> bool {
        self.meter.spend(1).await;
        match rule {
            AnyPushRuleRef::Override(rule)
            | AnyPushRuleRef::PostContent(rule)
            | AnyPushRuleRef::Underride(rule) => self.meets_all(rule).await,
            AnyPushRuleRef::Content(rule) => self.has_pattern(rule).await,
            AnyPushRuleRef::Room(rule) => self.is_like("room_id", rule.rule_id.as_str()).await,
            AnyPushRuleRef::Sender(rule) => self.is_like("sender", rule.rule_id.as_str()).await,
        }
    }

    async fn meets_all(&mut self, rule: &ConditionalPushRule) -> bool {
        if OLD_MENTIONS.contains(&&*rule.rule_id) && self.seen.flat.contains_mentions() {
            return false;
        }
        for condition in &rule.conditions {
            if !self.meets(condition).await {
                return false;
            }
        }
        true
    }

    async fn has_pattern(&mut self, rule: &PatternedPushRule) -> bool {
        let is_old = rule.rule_id == OLD_MENTION_BY_PATTERN && self.seen.flat.contains_mentions();
        !is_old && self.is_like(BODY, &rule.pattern).await
    }

    async fn meets(&mut self, condition: &PushCondition) -> bool {
        match condition {
            PushCondition::EventMatch(wanted) => self.is_like(&wanted.key, &wanted.pattern).await,
            condition if condition.kind() == "contains_display_name" => self.has_name().await,
            other => {
                let steps = match other {
                    PushCondition::EventPropertyContains(wanted) => {
                        let list = self.seen.flat.get(&wanted.key).and_then(|value| value.as_array());
                        list.map_or(1, <[_]>::len)
                    }
                    PushCondition::ThreadSubscription(_) => READ_STEPS,
                    _ => 1,
                };
                self.meter.spend(steps).await;
                other.applies(&self.seen.flat, self.room).await
            }
        }
    }

    /// Whether a property is as a pattern says. A pattern that is too long says nothing.
    async fn is_like(&mut self, path: &str, pattern: &str) -> bool {
        if pattern.len() > PUSH_PATTERN_BYTES_MAX {
            return false;
        }
        let Some(text) = self.seen.text(path) else { return false };
        self.meter.spend(glob::steps(text)).await;
        glob::matches(pattern, text, if path == BODY { Extent::Words } else { Extent::Whole })
    }

    /// Whether the user is named. The name means itself, with whatever characters.
    async fn has_name(&mut self) -> bool {
        let (Some(text), Some(name)) = (self.seen.text(BODY), &self.name) else { return false };
        self.meter.spend(glob::steps(text)).await;
        glob::contains(name, text, Extent::Words)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use ruma::{owned_room_id, owned_user_id, uint};
    use serde_json::{Value, json};

    use super::*;
    use crate::limits::{PUSH_RULES_MAX, PUSH_VALUE_BYTES_MAX};

    fn seen(content: Value) -> Seen {
        let fields =
            [("room_id", json!("!r:b")), ("sender", json!("@bob:b")), ("type", json!("m.room.message"))];
        Seen::of(fields.into_iter().chain([("content", content)])).unwrap()
    }

    fn room(name: &str) -> PushConditionRoomCtx {
        PushConditionRoomCtx::new(
            owned_room_id!("!r:b"),
            uint!(3),
            owned_user_id!("@alice:b"),
            name.to_owned(),
        )
    }

    fn rules(rules: Value) -> Ruleset {
        serde_json::from_value(rules).unwrap()
    }

    fn content_rule(id: usize, pattern: &str) -> Value {
        let rule_id = id.to_string();
        json!({ "rule_id": rule_id, "default": false, "enabled": true, "actions": [], "pattern": pattern })
    }

    fn override_rule(id: &str, condition: Value) -> Value {
        json!({ "rule_id": id, "default": false, "enabled": true, "actions": [], "conditions": [condition] })
    }

    /// The first rule that applies, with how often the one who asked was told to come again.
    fn run(rules: &Ruleset, seen: &Seen, name: &str) -> (Option<String>, usize, Meter) {
        let (room, mut meter, mut waits) = (room(name), Meter::default(), 0);
        let found = {
            let mut asking = pin!(first_match(rules, seen, &room, &mut meter));
            loop {
                match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(found) => break found.map(|rule| rule.rule_id().to_owned()),
                    Poll::Pending => waits += 1,
                }
            }
        };
        (found, waits, meter)
    }

    #[track_caller]
    fn check(rule: Value, content: Value, applies: bool) {
        let set = rules(json!({ "override": [rule] }));
        let (found, ..) = run(&set, &seen(content.clone()), "Al*ce");
        assert_eq!(found.is_some(), applies, "{set:?} {content}");
    }

    #[test]
    fn conditions_are_those_of_the_specification() {
        let says = |key: &str, pattern: &str| {
            override_rule("x", json!({ "kind": "event_match", "key": key, "pattern": pattern }))
        };
        check(says("content.body", "CAKE"), json!({ "body": "I like Cake!" }), true);
        check(says("content.body", "cake"), json!({ "body": "Pancake" }), false);
        check(says("content.msgtype", "m.*"), json!({ "msgtype": "m.text" }), true);
        check(says("content.msgtype", "text"), json!({ "msgtype": "m.text" }), false);
        check(says("content.a\\.b.c", "d"), json!({ "a.b": { "c": "d" } }), true);
        check(says("content.n", "1"), json!({ "n": 1 }), false);
        check(says("room_id", "!r:b"), json!({}), true);
        check(says("sender", "@b*"), json!({}), true);
        let named = || override_rule("x", json!({ "kind": "contains_display_name" }));
        check(named(), json!({ "body": "hello al*ce" }), true);
        check(named(), json!({ "body": "hello alice" }), false);
        let old =
            || override_rule(".m.rule.contains_display_name", json!({ "kind": "contains_display_name" }));
        check(old(), json!({ "body": "hello al*ce" }), true);
        check(old(), json!({ "body": "hello al*ce", "m.mentions": {} }), false);
        let is = json!({ "kind": "event_property_is", "key": "content.n", "value": 1 });
        check(override_rule("x", is), json!({ "n": 1 }), true);
        let contains = json!({ "kind": "event_property_contains", "key": "content.l", "value": "b" });
        check(override_rule("x", contains.clone()), json!({ "l": ["a", "b"] }), true);
        check(override_rule("x", contains), json!({ "l": ["a"] }), false);
        check(override_rule("x", json!({ "kind": "room_member_count", "is": ">2" })), json!({}), true);
        check(override_rule("x", json!({ "kind": "org.example.unknown" })), json!({}), false);
    }

    /// Row 5.3 of the list of known vulnerabilities (CVE-2021-29471): as many rules as a user may have, all with the
    /// worst pattern, on the longest text.
    #[test]
    fn row_5_3_cve_2021_29471_patterns_cannot_hold_the_server() {
        let worst = "*a?".repeat(PUSH_PATTERN_BYTES_MAX / 3);
        let set = (0..PUSH_RULES_MAX).map(|id| content_rule(id, &format!("{worst}b")));
        let set = rules(json!({ "content": set.collect::<Vec<_>>() }));
        let body = "a".repeat(PUSH_VALUE_BYTES_MAX * 7);
        let (found, waits, meter) = run(&set, &seen(json!({ "body": body })), "");
        assert_eq!(found, None);
        assert!(meter.steps <= PUSH_RULES_MAX * (PUSH_VALUE_BYTES_MAX + 100), "{meter:?}");
        assert_eq!(waits, meter.turns);
        assert!(waits >= meter.steps / (PUSH_STEPS_PER_TURN + PUSH_VALUE_BYTES_MAX + 100), "{meter:?}");
    }

    /// Such rules were taken before there were bounds, and a name is whatever its user says.
    #[test]
    fn patterns_that_are_too_long_match_nothing() {
        let worst = "?".repeat(200_000);
        let body = seen(json!({ "body": worst }));
        let set = rules(json!({
            "override": [
                override_rule("name", json!({ "kind": "contains_display_name" })),
                override_rule("x", json!({ "kind": "event_match", "key": "content.body", "pattern": worst })),
            ],
            "content": [content_rule(1, &worst), content_rule(2, "*")],
        }));
        assert_eq!(run(&set, &body, &worst).0.as_deref(), Some("2"));
    }

    #[test]
    fn no_more_of_an_event_is_seen_than_rules_can_afford() {
        let deep = json!({ "x".repeat(30_000): { "a": 1, "b": 2 } });
        let mut wide: serde_json::Map<String, Value> =
            (0..5_000).map(|n| (format!("p{n:04}"), json!(n))).collect();
        wide.insert("a".into(), json!("x".repeat(60_000)));
        let deep = seen(deep);
        assert!(deep.flat.get_str("type").is_some());
        assert!(!format!("{:?}", deep.flat).contains("xxx"));
        let wide = seen(Value::Object(wide));
        assert_eq!(wide.text("content.a").map(str::len), Some(PUSH_VALUE_BYTES_MAX));
        assert!(wide.flat.get("content.p0500").is_some());
        assert!(wide.flat.get("content.p4999").is_none());
        assert_eq!(wide.text("type"), Some("m.room.message"));
    }
}
