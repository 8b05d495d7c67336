//! Push rules as stored: account data of the type `m.push_rules`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use ruma::{
    UserId,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData, NewPushRule,
        PushCondition, RoomMemberCountConditionData, Ruleset, SoundTweakValue, Tweak,
    },
    uint,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{AccountError, Accounts};
use crate::{
    limits::{PUSH_CONDITIONS_MAX, PUSH_PATTERN_BYTES_MAX, PUSH_RULES_MAX},
    store::StoreError,
};

const PUSH_RULES: &str = "m.push_rules";

/// The content of `m.push_rules`.
#[derive(Serialize, Deserialize)]
struct PushRules {
    global: Ruleset,
}

impl Accounts {
    /// The push rules of a user: the server's defaults with what the user changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn push_rules(&self, user: &UserId) -> Result<Ruleset, AccountError> {
        let content = self.data(user, None, PUSH_RULES).await?;
        Ok(rules_of(self.default_rules(user), content.as_deref()))
    }

    fn default_rules(&self, user: &UserId) -> Ruleset {
        let mut rules = server_default(user);
        if !self.settings.thread_subscriptions {
            rules.postcontent.clear();
        }
        rules
    }

    /// Has `change` change the push rules of a user, and tells all their devices; once more if another
    /// request was faster.
    ///
    /// # Errors
    /// What `change` refuses, or when the rules are too large.
    pub async fn change_push_rules<E: From<AccountError>>(
        &self,
        user: &UserId,
        mut change: impl FnMut(&mut Ruleset) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change_data(user, (None, PUSH_RULES), |content| {
            let mut global = rules_of(self.default_rules(user), content);
            change(&mut global)?;
            let content = to_raw_value(&PushRules { global });
            content.map(Some).map_err(|error| AccountError::Store(StoreError::engine(error)).into())
        })
        .await
    }
}

/// Whether a rule may be set beside `rules`: every event that its user may be told of is held against it.
///
/// # Errors
/// [`AccountError::Invalid`] when something in it is too long, [`AccountError::TooLarge`] when there are too many rules.
pub fn check_push_rule(rules: &Ruleset, rule: &NewPushRule) -> Result<(), AccountError> {
    let mut texts = vec![rule.rule_id()];
    match rule {
        NewPushRule::Content(rule) => texts.push(&rule.pattern),
        NewPushRule::Override(rule) | NewPushRule::PostContent(rule) | NewPushRule::Underride(rule) => {
            if rule.conditions.len() > PUSH_CONDITIONS_MAX {
                return Err(AccountError::Invalid(format!(
                    "A push rule may have {PUSH_CONDITIONS_MAX} conditions at most"
                )));
            }
            texts.extend(rule.conditions.iter().flat_map(texts_of));
        }
        _ => {}
    }
    if texts.iter().any(|text| text.len() > PUSH_PATTERN_BYTES_MAX) {
        return Err(AccountError::Invalid(format!(
            "The id, patterns and keys of a push rule may have {PUSH_PATTERN_BYTES_MAX} bytes at most"
        )));
    }
    let is_new = rules.get(rule.kind(), rule.rule_id()).is_none();
    let count = || rules.iter().filter(|rule| !rule.is_server_default()).count();
    match is_new && count() >= PUSH_RULES_MAX {
        true => Err(AccountError::TooLarge("There are too many push rules")),
        false => Ok(()),
    }
}

/// What in a condition is looked for.
fn texts_of(condition: &PushCondition) -> Vec<&str> {
    match condition {
        PushCondition::EventMatch(wanted) => vec![&wanted.key, &wanted.pattern],
        PushCondition::EventPropertyIs(wanted) => vec![&wanted.key],
        PushCondition::EventPropertyContains(wanted) => vec![&wanted.key],
        _ => Vec::new(),
    }
}

/// The rules that everybody has until they change them: those of the specification, those about polls, one by which a
/// client has every encrypted event brought to it, to judge by itself; that one is off; and those about threads to
/// which users subscribe. There is none about calls of MatrixRTC: clients send `org.matrix.msc4075.rtc.notification` with
/// the mentions of those who are to be told, so that the rules about mentions bring it to them; the rules that MSC4075
/// has by now are about an event that nobody sends.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3930>
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4028>
fn server_default(user: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user);
    let notify = || vec![Action::Notify];
    let sound = || vec![Action::Notify, Action::SetTweak(Tweak::Sound(SoundTweakValue::Default))];
    let encrypted = rule(".org.matrix.msc4028.encrypted_event", "m.room.encrypted", notify());
    rules.override_.insert(ConditionalPushRule { enabled: false, ..encrypted });
    let poll = |name: &str, moment: &str, actions| {
        let id = format!(".org.matrix.msc3930.rule.poll_{name}");
        rule(&id, &format!("org.matrix.msc3381.poll.{moment}"), actions)
    };
    rules.override_.insert(poll("response", "response", Vec::new()));
    for moment in ["start", "end"] {
        let mut of_two = poll(&format!("{moment}_one_to_one"), moment, sound());
        let two = RoomMemberCountConditionData::new(uint!(2).into());
        of_two.conditions.push(PushCondition::RoomMemberCount(two));
        rules.underride.insert(of_two);
        rules.underride.insert(poll(moment, moment, notify()));
    }
    rules
}

/// A default rule about events of a type.
fn rule(id: &str, event_type: &str, actions: Vec<Action>) -> ConditionalPushRule {
    let of_type = EventMatchConditionData::new("type".to_owned(), event_type.to_owned());
    let conditions = vec![PushCondition::EventMatch(of_type)];
    let rule_id = id.to_owned();
    ConditionalPushRuleInit { actions, default: true, enabled: true, rule_id, conditions }.into()
}

fn rules_of(defaults: Ruleset, content: Option<&RawValue>) -> Ruleset {
    match content.and_then(|content| serde_json::from_str::<PushRules>(content.get()).ok()) {
        Some(PushRules { mut global }) => {
            // ruma passes over this kind, in which there are none but the server's own.
            let about_threads = defaults.postcontent.iter().map(|rule| {
                let known = global.postcontent.get(&*rule.rule_id);
                known.map_or_else(|| rule.clone(), |known| with_choices(rule, known))
            });
            let about_threads = about_threads.collect();
            global.update_with_server_default(defaults);
            global.postcontent = about_threads;
            global
        }
        None => defaults,
    }
}

/// A default rule with what a user has chosen.
fn with_choices(rule: &ConditionalPushRule, known: &ConditionalPushRule) -> ConditionalPushRule {
    ConditionalPushRule { enabled: known.enabled, actions: known.actions.clone(), ..rule.clone() }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::{rules_of, server_default};

    #[test]
    fn what_a_user_changed_stays_when_defaults_are_added() {
        let user = user_id!("@a:b");
        let mut stored = ruma::push::Ruleset::server_default(user);
        stored.set_enabled(ruma::push::RuleKind::Underride, ".m.rule.message", false).unwrap();
        let content = serde_json::value::to_raw_value(&json!({ "global": stored })).unwrap();
        let rules = rules_of(server_default(user), Some(&content));
        let ids = |rules: &ruma::push::Ruleset| -> Vec<String> {
            let rules = rules.override_.iter().chain(&rules.underride);
            rules.map(|rule| rule.rule_id.clone()).collect()
        };
        assert_eq!(ids(&rules), ids(&server_default(user)));
        let rule = |id: &str| {
            let mut all = rules.override_.iter().chain(&rules.underride);
            all.find(|rule| rule.rule_id == id).unwrap_or_else(|| panic!("no {id}")).clone()
        };
        assert!(!rule(".m.rule.message").enabled);
        assert!(!rule(".org.matrix.msc4028.encrypted_event").enabled);
        assert!(rule(".org.matrix.msc3930.rule.poll_response").actions.is_empty());
        assert_eq!(rule(".org.matrix.msc3930.rule.poll_end_one_to_one").conditions.len(), 2);
    }

    #[test]
    fn rules_about_threads_keep_their_choices_and_go_with_the_setting() {
        let user = user_id!("@a:b");
        let mut stored = server_default(user);
        let unsubscribed = ".io.element.msc4306.rule.unsubscribed_thread";
        stored.set_enabled(ruma::push::RuleKind::PostContent, unsubscribed, false).unwrap();
        let content = serde_json::value::to_raw_value(&json!({ "global": stored })).unwrap();
        let enabled = |rules: &ruma::push::Ruleset| -> Vec<bool> {
            rules.postcontent.iter().map(|rule| rule.enabled).collect()
        };
        assert_eq!(enabled(&rules_of(server_default(user), Some(&content))), [false, true]);
        let mut without = server_default(user);
        without.postcontent.clear();
        assert!(rules_of(without, Some(&content)).postcontent.is_empty());
    }
}
