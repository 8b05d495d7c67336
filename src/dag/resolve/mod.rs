//! State resolution: one state out of several, by the algorithm of the room version.
//!
//! Room version 1 has its own algorithm ([`first`]); the others use ruma's, for which [`chains`] computes
//! the auth chains and the conflicted subgraph. Everything comes out of a map of events that were loaded
//! before. What turns out to be lacking is named in [`ResolveError::Missing`], and the whole is tried
//! again. The result never depends on the order of the states.

mod chains;
mod first;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use ruma::{
    EventId, OwnedEventId,
    room_version_rules::{RoomVersionRules, StateResolutionVersion},
    state_res::{self, StateMap, utils::event_id_set::EventIdSet},
};

pub use chains::auth_chains;

use super::pdu::Pdu;

/// Why no state came out.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// These events must be loaded first.
    #[error("{} events must be loaded first", .0.len())]
    Missing(Vec<OwnedEventId>),
    /// The events contradict what must hold of every stored event, say a state event without a state key.
    #[error("the events of the room are broken: {0}")]
    Broken(String),
}

/// The events that are at hand, and a note of those that were asked for in vain.
pub(super) struct Events<'a> {
    known: &'a HashMap<OwnedEventId, Pdu>,
    missing: RefCell<BTreeSet<OwnedEventId>>,
}

impl<'a> Events<'a> {
    fn new(known: &'a HashMap<OwnedEventId, Pdu>) -> Self {
        Self { known, missing: RefCell::default() }
    }

    fn get(&self, id: &EventId) -> Option<&'a Pdu> {
        let found = self.known.get(id);
        if found.is_none() {
            self.missing.borrow_mut().insert(id.to_owned());
        }
        found
    }

    /// `value`, unless something was asked for in vain.
    fn unless_missing<T>(self, value: Result<T, ResolveError>) -> Result<T, ResolveError> {
        let missing = self.missing.into_inner();
        match missing.is_empty() {
            true => value,
            false => Err(ResolveError::Missing(missing.into_iter().collect())),
        }
    }
}

/// Resolves `states`. All of `events` are events of the room; rejected ones are marked as such.
///
/// Needed are the events that the states disagree about and, but for room version 1, the auth chains of
/// all states. Where those are long, see [`resolve_with_chains`].
pub fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    if let Some(state) = only_state(states) {
        return Ok(state);
    }
    let chains = match rules.state_res {
        StateResolutionVersion::V1 => Vec::new(),
        StateResolutionVersion::V2(_) => {
            auth_chains(states, |id| events.get(id).map(Pdu::auth_events)).map_err(ResolveError::Missing)?
        }
    };
    resolve_with_chains(rules, states, chains, events)
}

/// As [`resolve`], with the auth chain of each state given, less what is in all of them.
pub fn resolve_with_chains(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    chains: Vec<EventIdSet<OwnedEventId>>,
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    if let Some(state) = only_state(states) {
        return Ok(state);
    }
    let known = Events::new(events);
    let resolved = match &rules.state_res {
        StateResolutionVersion::V1 => first::resolve(&rules.authorization, states, &known),
        StateResolutionVersion::V2(v2) => state_res::resolve(
            &rules.authorization,
            v2,
            states,
            chains,
            |id| known.get(id),
            |conflicted| chains::subgraph(conflicted, &known),
        )
        .map_err(|error| ResolveError::Broken(error.to_string())),
    };
    known.unless_missing(resolved)
}

/// The state on which all agree without any rule.
fn only_state(states: &[StateMap<OwnedEventId>]) -> Option<StateMap<OwnedEventId>> {
    match states.split_first() {
        None => Some(StateMap::new()),
        Some((first, rest)) if rest.iter().all(|state| state == first) => Some(first.clone()),
        Some(_) => None,
    }
}
