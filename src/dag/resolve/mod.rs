//! State resolution: one state out of several, by the algorithm of the room version.
//!
//! Room version 1 has its own algorithm ([`first`]); the others use ruma's, which is given the auth
//! difference and the conflicted subgraph. There are two ways to those. [`resolve`] walks whole auth
//! chains ([`chains`]), as the specification defines them. [`Merge`] is for large rooms: its states are
//! trees, and the auth chain index ([`index`]) keeps it to what differs; [`merge()`] is the same by whole
//! chains. All come out the same. All works
//! on what was loaded before; what turns out to be lacking is named in the error. The result never depends
//! on the order of the states.

mod between;
mod chains;
mod difference;
mod first;
mod index;
#[cfg(test)]
mod index_tests;
mod merge;
#[cfg(test)]
mod tests;
mod whole;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::{RoomVersionRules, StateResolutionVersion},
    state_res::{self, StateMap, utils::event_id_set::EventIdSet},
};

pub use chains::{auth_chain, auth_chains_beyond};
pub use index::{AtHand, Citer, Citers, Need, authorises, citations};
pub use merge::{Merge, MergeStop};
pub use whole::{MergeError, merge};

use super::{auth, pdu::Pdu};

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
/// all states. For states that are kept as trees see [`Merge`].
pub fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    if let Some(state) = only_state(states) {
        return Ok(state);
    }
    let common = common_state(states);
    let mut cut: Vec<StateMap<OwnedEventId>> = states.iter().map(|state| without(state, &common)).collect();
    let chains = match rules.state_res {
        StateResolutionVersion::V1 => Vec::new(),
        StateResolutionVersion::V2(_) => {
            let auth_events = |id: &EventId| events.get(id).map(Pdu::auth_events);
            let shared = auth_chain(common.values().copied(), auth_events).map_err(ResolveError::Missing)?;
            auth_chains_beyond(&cut, |id| shared.contains(id), auth_events).map_err(ResolveError::Missing)?
        }
    };
    for key in relevant_keys(rules, &cut, &chains, events)? {
        if let Some(id) = common.get(&key) {
            cut.iter_mut().for_each(|state| drop(state.insert(key.clone(), (*id).clone())));
        }
    }
    let mut resolved = resolve_with_chains(rules, &cut, chains, events)?;
    resolved.extend(common.into_iter().map(|(key, id)| (key.clone(), id.clone())));
    Ok(resolved)
}

/// As [`resolve`], with the auth chain of each state given, less what is in the chain of the common state.
///
/// Large states need not be handed in whole: it is enough to give where they differ, and of the rest what
/// stands at the [`relevant_keys`]. The outcome is then the resolved state at those keys.
pub fn resolve_with_chains(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    chains: Vec<EventIdSet<OwnedEventId>>,
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    if let Some(state) = only_state(states) {
        return Ok(state);
    }
    ask_rules(rules, states, chains, events, chains::subgraph)
}

/// Asks the algorithm of the room version.
fn ask_rules(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    chains: Vec<EventIdSet<OwnedEventId>>,
    events: &HashMap<OwnedEventId, Pdu>,
    subgraph: impl Fn(&StateMap<Vec<OwnedEventId>>, &Events<'_>) -> Option<EventIdSet<OwnedEventId>>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    let known = Events::new(events);
    let resolved = match &rules.state_res {
        StateResolutionVersion::V1 => first::resolve(&rules.authorization, states, &known),
        StateResolutionVersion::V2(v2) => state_res::resolve(
            &rules.authorization,
            v2,
            states,
            chains,
            |id| known.get(id),
            |conflicted| subgraph(conflicted, &known),
        )
        .map_err(|error| ResolveError::Broken(error.to_string())),
    };
    known.unless_missing(resolved)
}

/// The keys of the common state at which a resolution of `states` may look, once `states` is cut down to
/// where they differ.
pub fn relevant_keys(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    chains: &[EventIdSet<OwnedEventId>],
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<BTreeSet<(StateEventType, String)>, ResolveError> {
    let known = Events::new(events);
    let mut conflicted: StateMap<Vec<OwnedEventId>> = StateMap::new();
    for (key, id) in states.iter().flatten() {
        conflicted.entry(key.clone()).or_default().push(id.clone());
    }
    let ids = conflicted.values().flatten().chain(chains.iter().flat_map(EventIdSet::iter)).cloned();
    let mut ids: BTreeSet<OwnedEventId> = ids.collect();
    if rules.state_res.v2_rules().is_some_and(|v2| v2.consider_conflicted_state_subgraph) {
        ids.extend(chains::subgraph(&conflicted, &known).into_iter().flatten());
    }
    let keys = places_looked_at(rules, ids.iter(), events);
    known.unless_missing(keys)
}

/// The places of the state that the rules look at for some events.
fn places_looked_at<'a>(
    rules: &RoomVersionRules,
    ids: impl Iterator<Item = &'a OwnedEventId>,
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<BTreeSet<(StateEventType, String)>, ResolveError> {
    let known = Events::new(events);
    let events: Vec<&Pdu> = ids.filter_map(|id| known.get(id)).collect();
    // An event so malformed that nothing can be selected for it looks at nothing and is denied.
    let keys = events.iter().filter_map(|pdu| auth::state_keys(pdu, &rules.authorization).ok()).flatten();
    known.unless_missing(Ok(keys.collect()))
}

/// What is the same in all states.
fn common_state(states: &[StateMap<OwnedEventId>]) -> HashMap<&(StateEventType, String), &OwnedEventId> {
    let Some((first, rest)) = states.split_first() else { return HashMap::new() };
    let in_all = |(key, id): &(&_, &OwnedEventId)| rest.iter().all(|state| state.get(*key) == Some(*id));
    first.iter().filter(in_all).collect()
}

fn without(
    state: &StateMap<OwnedEventId>,
    common: &HashMap<&(StateEventType, String), &OwnedEventId>,
) -> StateMap<OwnedEventId> {
    let own = state.iter().filter(|(key, _)| !common.contains_key(key));
    own.map(|(key, id)| (key.clone(), id.clone())).collect()
}

/// The state on which all agree without any rule.
fn only_state(states: &[StateMap<OwnedEventId>]) -> Option<StateMap<OwnedEventId>> {
    match states.split_first() {
        None => Some(StateMap::new()),
        Some((first, rest)) if rest.iter().all(|state| state == first) => Some(first.clone()),
        Some(_) => None,
    }
}
