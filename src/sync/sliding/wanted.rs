//! What of a room a client wants: how many events, and which state.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>

use std::collections::BTreeSet;

use ruma::events::StateEventType;
use serde::{Deserialize, Serialize};

use crate::dag::StateKey;

pub(super) const MEMBER: &str = "m.room.member";

/// Matches state by type and key; what is absent matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Pattern {
    pub(super) event_type: Option<String>,
    pub(super) state_key: Option<String>,
}

impl Pattern {
    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        self.event_type.iter().chain(&self.state_key)
    }

    fn matches(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| wanted == event_type)
            && self.state_key.as_deref().is_none_or(|wanted| wanted == state_key)
    }

    /// Whether every member event matches.
    fn takes_members(&self) -> bool {
        self.state_key.is_none() && self.event_type.as_deref().is_none_or(|wanted| wanted == MEMBER)
    }
}

/// The state that one list or subscription wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) include: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    /// Members only where an event needs them, and those whom a pattern names.
    pub(super) lazy_members: bool,
}

impl Wanted {
    fn matches(&self, event_type: &str, state_key: &str) -> bool {
        let left_out =
            |pattern: &Pattern| self.lazy_members && event_type == MEMBER && pattern.takes_members();
        self.include.iter().any(|pattern| pattern.matches(event_type, state_key) && !left_out(pattern))
            && !self.exclude.iter().any(|pattern| pattern.matches(event_type, state_key))
    }

    fn takes_members(&self) -> bool {
        !self.lazy_members && self.include.iter().any(Pattern::takes_members)
    }
}

/// What a client wants of a room: the union of what its lists and subscriptions ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RoomConfig {
    /// Events of the timeline.
    pub(super) timeline_limit: usize,
    /// State that matches any of these; in order and each once, so that equal configurations are equal.
    pub(super) wanted: BTreeSet<Wanted>,
}

/// How the wanted part of a state is found without looking at all of it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) keys: BTreeSet<StateKey>,
    pub(super) types: BTreeSet<StateEventType>,
    pub(super) everything: bool,
}

impl RoomConfig {
    /// Takes in another.
    pub(super) fn merge(&mut self, other: &Self) {
        self.timeline_limit = self.timeline_limit.max(other.timeline_limit);
        self.wanted.extend(other.wanted.iter().cloned());
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let of_pattern =
            |pattern: &Pattern| size_of::<Pattern>() + pattern.texts().map(String::len).sum::<usize>();
        let of = |wanted: &Wanted| {
            let patterns = wanted.include.iter().chain(&wanted.exclude);
            size_of::<Wanted>() + patterns.map(of_pattern).sum::<usize>()
        };
        size_of::<Self>() + self.wanted.iter().map(of).sum::<usize>()
    }

    /// Whether a piece of state is wanted, whatever the timeline.
    pub(super) fn matches(&self, event_type: &str, state_key: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.matches(event_type, state_key))
    }

    pub(super) fn matches_key(&self, key: &StateKey) -> bool {
        self.matches(&key.event_type.to_string(), &key.state_key)
    }

    /// Whether members are sent where events need them.
    pub(super) fn is_lazy(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.lazy_members) && !self.wanted.iter().any(Wanted::takes_members)
    }

    /// Whether everything that this wants of the state was wanted by `other` too.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.wanted.is_subset(&other.wanted)
    }

    /// Where the wanted state is to be looked for.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for pattern in self.wanted.iter().flat_map(|wanted| &wanted.include) {
            match (&pattern.event_type, &pattern.state_key) {
                (Some(event_type), Some(key)) => {
                    plan.keys.insert(StateKey::new(event_type.as_str().into(), key));
                }
                (Some(event_type), None) => drop(plan.types.insert(event_type.as_str().into())),
                (None, _) => plan.everything = true,
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        let part = |part: &str| (part != "*").then(|| part.to_owned());
        let (event_type, state_key) = text.split_once('/').unwrap();
        Pattern { event_type: part(event_type), state_key: part(state_key) }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| pattern(text)).collect()
    }

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], lazy_members: bool, key: &str, expected: bool) {
        let (include, exclude) = (patterns(include), patterns(exclude));
        let wanted = BTreeSet::from([Wanted { include, exclude, lazy_members }]);
        let config = RoomConfig { timeline_limit: 1, wanted };
        let (event_type, state_key) = key.split_once('/').unwrap();
        assert_eq!(config.matches(event_type, state_key), expected, "{key}");
    }

    #[test]
    fn patterns_choose_state() {
        check(&["*/*"], &[], false, "m.room.name/", true);
        check(&["*/*"], &["m.room.name/*"], false, "m.room.name/", false);
        check(&["m.room.name/"], &[], false, "m.room.name/", true);
        check(&["m.room.name/"], &[], false, "m.room.name/x", false);
        check(&["*/x"], &[], false, "m.any/x", true);
        check(&["*/x"], &[], false, "m.any/y", false);
        check(&["*/*"], &[], false, "m.room.member/@a:b", true);
        check(&["*/*"], &[], true, "m.room.member/@a:b", false);
        check(&["*/*", "m.room.member/@a:b"], &[], true, "m.room.member/@a:b", true);
        check(&["*/*"], &[], true, "m.room.name/", true);
        check(&[], &[], true, "m.room.name/", false);
    }

    #[test]
    fn what_is_lazy_in_one_and_whole_in_another_is_whole() {
        let config = |include: &[&str], lazy_members| RoomConfig {
            timeline_limit: 1,
            wanted: [Wanted { include: patterns(include), exclude: vec![], lazy_members }].into(),
        };
        let (mut lazy, whole) = (config(&["*/*"], true), config(&["m.room.member/*"], false));
        assert!(lazy.is_lazy() && !whole.is_lazy());
        assert!(!whole.is_within(&lazy) && lazy.is_within(&lazy.clone()));
        lazy.merge(&config(&["m.room.name/"], false));
        assert!(lazy.is_lazy());
        lazy.merge(&whole);
        assert!(!lazy.is_lazy() && lazy.matches(MEMBER, "@a:b"));
    }
}
