//! The checks on receipt of an event, one type per step: text → [`Pdu`] → [`Signed`] → [`Verdict`].
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};

use super::{
    auth::{self, Denied},
    pdu::{FormatError, Pdu, create_of_room},
    redact,
};
use crate::keys::{Integrity, PublicKeyMap, VerifyError, verify_event};

/// Why an event is dropped, or cannot be looked at yet, before any rule of the room is asked.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The text is no event of its room version: drop it.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The signatures are bad: drop it. Or keys are missing: fetch them and try again.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// An event whose signatures are good.
#[derive(Clone, Debug)]
#[must_use]
pub struct Signed(Pdu);

impl Signed {
    /// An event that this server has just built and signed.
    pub fn ours(pdu: Pdu) -> Self {
        Self(pdu)
    }

    /// Checks the signatures. If only the content hash is wrong, what remains is the redacted event.
    pub fn verify(pdu: Pdu, keys: &PublicKeyMap, rules: &RoomVersionRules) -> Result<Self, ReceiveError> {
        match verify_event(&pdu.object(), keys, rules)? {
            Integrity::Whole => Ok(Self(pdu)),
            Integrity::Redacted => Ok(Self(redact::prune(&pdu, rules)?)),
        }
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Pdu {
        &self.0
    }
}

/// Reads a received text and checks its signatures: the steps that need nothing of the room.
pub fn receive(text: &str, keys: &PublicKeyMap, rules: &RoomVersionRules) -> Result<Signed, ReceiveError> {
    Signed::verify(Pdu::parse(text, rules)?, keys, rules)
}

/// What is known of the room. Every lookup must be of this room only.
pub trait RoomView {
    /// A stored event, rejected ones marked as such.
    fn event(&self, event_id: &EventId) -> Option<Pdu>;
    /// Whether the state before the event is known, that is, all its previous events are.
    fn knows_state_before(&self) -> bool;
    /// An event of the state before the event.
    fn state_before(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu>;
    /// An event of the current state of the room.
    fn current_state(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu>;
}

/// What must be fetched before an event can be judged. It says nothing against the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Auth events that are not stored, and the create event of a room of version 12.
    pub auth_events: Vec<OwnedEventId>,
    /// Previous events that are not stored, or whose state is not known.
    pub prev_events: Vec<OwnedEventId>,
}

/// What becomes of an event.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// It is part of the room.
    Accepted(Pdu),
    /// Allowed where it stands in the graph, but not by the current state: kept, and not shown.
    SoftFailed(Pdu, Denied),
    /// Forbidden: kept, marked as rejected, and never part of any state.
    Rejected(Pdu, Denied),
    /// Not judged.
    Missing(Missing),
}

/// Judges an event by the rules of its room.
pub fn judge(event: &Signed, rules: &RoomVersionRules, view: &impl RoomView) -> Verdict {
    let (pdu, auth_rules) = (event.pdu(), &rules.authorization);
    let missing = missing_auth_events(pdu, rules, view);
    if !missing.is_empty() {
        return Verdict::Missing(Missing { auth_events: missing, prev_events: Vec::new() });
    }
    let fetch = |id: &EventId| view.event(id);
    let named = auth::named_state(pdu, auth_rules, fetch);
    let by_auth_events = auth::check_selection(pdu, auth_rules, fetch).and_then(|()| {
        auth::check_against(pdu, auth_rules, |event_type, key| {
            named.get(&(event_type.clone(), String::from(key))).cloned()
        })
    });
    if let Err(denied) = by_auth_events {
        return Verdict::Rejected(pdu.clone().into_rejected(), denied);
    }
    if !pdu.prev_events().is_empty() && !view.knows_state_before() {
        let absent = pdu.prev_events().iter().filter(|id| view.event(id).is_none());
        let absent: Vec<_> = absent.cloned().collect();
        let prev_events = if absent.is_empty() { pdu.prev_events().to_vec() } else { absent };
        return Verdict::Missing(Missing { auth_events: Vec::new(), prev_events });
    }
    let before = |event_type: &StateEventType, key: &str| match pdu.prev_events().is_empty() {
        true => None,
        false => view.state_before(event_type, key),
    };
    if let Err(denied) = auth::check_against(pdu, auth_rules, before) {
        return Verdict::Rejected(pdu.clone().into_rejected(), denied);
    }
    match auth::check_against(pdu, auth_rules, |event_type, key| view.current_state(event_type, key)) {
        Ok(()) => Verdict::Accepted(pdu.clone()),
        Err(denied) => Verdict::SoftFailed(pdu.clone(), denied),
    }
}

/// Judges an event by its auth events alone: an outlier, whose place in the graph is not known.
pub fn judge_outlier(
    event: &Signed,
    rules: &RoomVersionRules,
    fetch_event: impl Fn(&EventId) -> Option<Pdu>,
) -> Verdict {
    judge(event, rules, &Outlier { pdu: event.pdu(), rules, fetch_event })
}

/// A room that is known only by the auth events of one event: these are all the state there is.
struct Outlier<'a, F> {
    pdu: &'a Pdu,
    rules: &'a RoomVersionRules,
    fetch_event: F,
}

impl<F: Fn(&EventId) -> Option<Pdu>> RoomView for Outlier<'_, F> {
    fn event(&self, event_id: &EventId) -> Option<Pdu> {
        (self.fetch_event)(event_id)
    }

    fn knows_state_before(&self) -> bool {
        true
    }

    fn state_before(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        let named = auth::named_state(self.pdu, &self.rules.authorization, &self.fetch_event);
        named.get(&(event_type.clone(), String::from(state_key))).cloned()
    }

    fn current_state(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        self.state_before(event_type, state_key)
    }
}

fn missing_auth_events(pdu: &Pdu, rules: &RoomVersionRules, view: &impl RoomView) -> Vec<OwnedEventId> {
    let is_create = *pdu.event_type() == TimelineEventType::RoomCreate;
    let implied = match rules.authorization.room_create_event_id_as_room_id && !is_create {
        true => create_of_room(pdu.room_id()),
        false => None,
    };
    pdu.auth_events().iter().chain(&implied).filter(|id| view.event(id).is_none()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use ruma::{EventId, events::StateEventType};
    use serde_json::{Value, json};

    use super::{Pdu, RoomView, Signed, Verdict, judge, receive};
    use crate::{
        dag::world::{World, public_keys},
        keys::PublicKeyMap,
    };

    /// A room as it was before an event, and as it is now.
    struct View<'a> {
        before: &'a World,
        now: &'a World,
        knows_state: bool,
    }

    impl RoomView for View<'_> {
        fn event(&self, event_id: &EventId) -> Option<Pdu> {
            self.now.event(event_id)
        }
        fn knows_state_before(&self) -> bool {
            self.knows_state
        }
        fn state_before(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
            self.before.at(event_type, state_key)
        }
        fn current_state(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
            self.now.at(event_type, state_key)
        }
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Accepted(_) => "accepted",
            Verdict::SoftFailed(..) => "soft-failed",
            Verdict::Rejected(pdu, _) if pdu.is_rejected() => "rejected",
            Verdict::Rejected(..) => "rejected, but not marked",
            Verdict::Missing(missing) if !missing.auth_events.is_empty() => "missing auth events",
            Verdict::Missing(_) => "missing prev events",
        }
    }

    /// Bob is in the room and says something after `before`; meanwhile `meanwhile` happened.
    #[track_caller]
    fn check(before: &[(&str, &str, &str, Value)], meanwhile: &[(&str, &str, &str, Value)], expected: &str) {
        for version in ["1", "6", "11", "12"] {
            let mut world = World::new(version);
            world.join("bob:b.org");
            for (sender, event_type, key, content) in before {
                world.send(sender, event_type, Some(key), content.clone()).unwrap();
            }
            let mut then = world.clone();
            let message = then.build("bob:b.org", "m.room.message", None, json!({"body": "hi"})).unwrap();
            for (sender, event_type, key, content) in meanwhile {
                world.send(sender, event_type, Some(key), content.clone()).unwrap();
            }
            let signed = receive(message.text(), &public_keys(), world.rules).unwrap();
            let verdict =
                judge(&signed, world.rules, &View { before: &then, now: &world, knows_state: true });
            assert_eq!(word(&verdict), expected, "version {version}: {verdict:?}");
        }
    }

    fn ban() -> (&'static str, &'static str, &'static str, Value) {
        ("alice", "m.room.member", "@bob:b.org", json!({"membership": "ban"}))
    }

    #[test]
    fn a_member_speaks() {
        check(&[], &[], "accepted");
    }

    #[test]
    fn a_banned_user_cannot_speak() {
        check(&[ban()], &[], "rejected");
    }

    #[test]
    fn a_late_ban_soft_fails() {
        check(&[], &[ban()], "soft-failed");
    }

    #[test]
    fn what_is_not_known_is_missing() {
        let mut world = World::new("12");
        world.join("bob:b.org");
        let before = world.clone();
        let message = world.build("bob:b.org", "m.room.message", None, json!({})).unwrap();
        let signed = Signed::ours(message.clone());
        let unknown = View { before: &before, now: &world, knows_state: false };
        assert_eq!(word(&judge(&signed, world.rules, &unknown)), "missing prev events");

        let mut forgetful = world.clone();
        forgetful.events.remove(&message.auth_events()[0]);
        let view = View { before: &before, now: &forgetful, knows_state: true };
        assert_eq!(word(&judge(&signed, world.rules, &view)), "missing auth events");

        let mut headless = world.clone();
        let create = world.at(&"m.room.create".into(), "").unwrap();
        headless.events.remove(&create.event_id().to_owned());
        let view = View { before: &before, now: &headless, knows_state: true };
        assert_eq!(word(&judge(&signed, world.rules, &view)), "missing auth events");
        assert!(receive(message.text(), &PublicKeyMap::new(), world.rules).is_err());
    }

    #[test]
    fn a_rejected_auth_event_rejects() {
        let mut world = World::new("11");
        world.join("bob:b.org");
        let before = world.clone();
        let message = world.build("bob:b.org", "m.room.message", None, json!({})).unwrap();
        for id in message.auth_events() {
            let mut view = world.clone();
            let rejected = view.event(id).unwrap().into_rejected();
            view.events.insert(id.clone(), rejected);
            let verdict = judge(
                &Signed::ours(message.clone()),
                world.rules,
                &View { before: &before, now: &view, knows_state: true },
            );
            assert_eq!(word(&verdict), "rejected");
        }
    }

    #[test]
    fn a_changed_content_is_redacted_on_receipt() {
        let mut world = World::new("11");
        let message = world.build("alice", "m.room.message", None, json!({"body": "hi"})).unwrap();
        let text = message.text().replace(r#""body":"hi""#, r#""body":"ha""#);
        let signed = receive(&text, &public_keys(), world.rules).unwrap();
        assert_eq!(signed.pdu().content().get(), "{}");
        assert_eq!(signed.pdu().event_id(), message.event_id());
    }
}
