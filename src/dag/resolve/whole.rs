//! Resolving states that are kept as trees by way of whole auth chains.

use std::collections::{BTreeMap, HashMap};

use ruma::{
    EventId, OwnedEventId,
    room_version_rules::{RoomVersionRules, StateResolutionVersion},
    state_res::StateMap,
};

use super::{ResolveError, auth_chain, auth_chains_beyond, relevant_keys, resolve_with_chains};
use crate::dag::{
    pdu::Pdu,
    tree::{self, Applied, NeedNodes, NodeSource, StateId, StateKey, StateValue},
};

/// Why no state came out.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// These nodes must be loaded first.
    #[error(transparent)]
    Nodes(#[from] NeedNodes),
    /// Events must be loaded first, or are broken.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

/// The state that `states` resolve to. The nodes to write are those that the first state lacks.
///
/// Nodes are read from `source`; `events` are those that were loaded so far.
pub fn merge(
    rules: &RoomVersionRules,
    states: &[StateId],
    source: &impl NodeSource,
    events: &HashMap<OwnedEventId, Pdu>,
) -> Result<Applied, MergeError> {
    let mut distinct = states.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let base = distinct.first().copied().unwrap_or(StateId::EMPTY);
    if distinct.len() < 2 {
        return Ok(Applied { state: base, nodes: Vec::new() });
    }
    let Forks { before, mut states } = Forks::of(source, &distinct)?;
    let chains = match rules.state_res {
        StateResolutionVersion::V1 => Vec::new(),
        StateResolutionVersion::V2(_) => {
            let auth_events = |id: &EventId| events.get(id).map(Pdu::auth_events);
            let mut common = tree::all(source, base)?;
            common.retain(|entry| !before.contains_key(&entry.key));
            let ids = common.iter().map(|entry| &entry.value.event_id);
            let shared = auth_chain(ids, auth_events).map_err(ResolveError::Missing)?;
            auth_chains_beyond(&states, |id| shared.contains(id), auth_events)
                .map_err(ResolveError::Missing)?
        }
    };
    let mut keys: Vec<StateKey> =
        relevant_keys(rules, &states, &chains, events)?.into_iter().map(StateKey::from).collect();
    keys.retain(|key| !before.contains_key(key));
    let values = tree::get_many(source, base, &keys)?;
    for (key, value) in keys.into_iter().zip(values) {
        if let Some(value) = value {
            let position = (key.event_type, key.state_key);
            states.iter_mut().for_each(|state| drop(state.insert(position.clone(), value.event_id.clone())));
        }
    }
    let mut resolved = resolve_with_chains(rules, &states, chains, events)?;
    let changes = before.into_keys().map(|key| {
        let id = resolved.remove(&(key.event_type.clone(), key.state_key.clone()));
        let membership = id.as_ref().and_then(|id| events.get(id)).and_then(Pdu::membership);
        (key, id.map(|event_id| StateValue { event_id, membership }))
    });
    Ok(tree::apply(source, base, changes)?)
}

/// Where some states differ: what the first of them has there, and what each has.
struct Forks {
    before: BTreeMap<StateKey, Option<StateValue>>,
    states: Vec<StateMap<OwnedEventId>>,
}

impl Forks {
    fn of(source: &impl NodeSource, states: &[StateId]) -> Result<Self, NeedNodes> {
        let base = states[0];
        let mut missing = Vec::new();
        let mut diffs = vec![Vec::new()];
        for other in &states[1..] {
            match tree::diff(source, base, *other) {
                Ok(diff) => diffs.push(diff),
                Err(NeedNodes(ids)) => missing.extend(ids),
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Err(NeedNodes(missing));
        }
        let before: BTreeMap<StateKey, Option<StateValue>> =
            diffs.iter().flatten().map(|change| (change.key.clone(), change.before.clone())).collect();
        let states = diffs.into_iter().map(|diff| {
            let mut values = before.clone();
            values.extend(diff.into_iter().map(|change| (change.key, change.after)));
            let position = |key: StateKey| (key.event_type, key.state_key);
            values.into_iter().filter_map(|(key, value)| Some((position(key), value?.event_id))).collect()
        });
        let states = states.collect();
        Ok(Self { before, states })
    }
}
