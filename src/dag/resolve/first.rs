//! The state resolution of room version 1.
//!
//! <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution>

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use ruma::{
    OwnedEventId, events::StateEventType, room_version_rules::AuthorizationRules, state_res::StateMap,
};
use sha1::{Digest, Sha1};

use super::{Events, ResolveError};
use crate::dag::{auth, pdu::Pdu};

type Key = (StateEventType, String);

pub(super) fn resolve(
    rules: &AuthorizationRules,
    states: &[StateMap<OwnedEventId>],
    events: &Events<'_>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    let mut candidates: BTreeMap<&Key, BTreeSet<&OwnedEventId>> = BTreeMap::new();
    for (key, id) in states.iter().flatten() {
        candidates.entry(key).or_default().insert(id);
    }
    let mut resolver = Resolver { rules, events, resolved: StateMap::new() };
    let mut conflicts: BTreeMap<&Key, Vec<&Pdu>> = BTreeMap::new();
    for (key, ids) in candidates {
        match ids.first() {
            Some(only) if ids.len() == 1 => drop(resolver.resolved.insert(key.clone(), (*only).clone())),
            _ => drop(conflicts.insert(key, ids.iter().filter_map(|id| events.get(id)).collect())),
        }
    }
    let power_levels = (StateEventType::RoomPowerLevels, String::new());
    let kinds: [&dyn Fn(&Key) -> bool; 3] =
        [&|key| *key == power_levels, &|key| key.0 == StateEventType::RoomJoinRules, &|key| {
            key.0 == StateEventType::RoomMember
        }];
    for is_kind in kinds {
        let found: Vec<_> = conflicts.keys().copied().filter(|key| is_kind(key)).collect();
        // The conflicts of one kind do not see each other's outcome.
        let mut outcomes = Vec::new();
        for key in found {
            let list = conflicts.remove(key).unwrap_or_default();
            outcomes.extend(resolver.last_of_the_allowed(key, list).map(|id| (key.clone(), id)));
        }
        resolver.resolved.extend(outcomes);
    }
    let rest: Vec<_> = conflicts
        .into_iter()
        .filter_map(|(key, list)| Some((key.clone(), resolver.deepest_of_the_allowed(list)?)))
        .collect();
    resolver.resolved.extend(rest);
    Ok(resolver.resolved)
}

struct Resolver<'a, 'e> {
    rules: &'a AuthorizationRules,
    events: &'a Events<'e>,
    resolved: StateMap<OwnedEventId>,
}

impl Resolver<'_, '_> {
    /// From the shallowest on, each event that the one before it allows, until one is not allowed.
    fn last_of_the_allowed(&self, key: &Key, mut list: Vec<&Pdu>) -> Option<OwnedEventId> {
        list.sort_by_key(|pdu| (pdu.depth(), Reverse(sha1(pdu))));
        let mut list = list.into_iter();
        let mut last = list.next()?;
        for next in list {
            if !self.allows(next, Some((key, last))) {
                break;
            }
            last = next;
        }
        Some(last.event_id().to_owned())
    }

    /// The deepest event that is allowed. If none is, the shallowest: the specification leaves that open,
    /// and the rooms of this version were made by a server that does so.
    fn deepest_of_the_allowed(&self, mut list: Vec<&Pdu>) -> Option<OwnedEventId> {
        list.sort_by_key(|pdu| (Reverse(pdu.depth()), sha1(pdu)));
        let chosen = list.iter().find(|pdu| self.allows(pdu, None)).or(list.last())?;
        Some(chosen.event_id().to_owned())
    }

    fn allows(&self, pdu: &Pdu, instead: Option<(&Key, &Pdu)>) -> bool {
        auth::check_against(pdu, self.rules, |event_type, state_key| {
            let wanted = (event_type.clone(), String::from(state_key));
            match instead {
                Some((key, candidate)) if *key == wanted => Some(candidate.clone()),
                _ => self.resolved.get(&wanted).and_then(|id| self.events.get(id)).cloned(),
            }
        })
        .is_ok()
    }
}

fn sha1(pdu: &Pdu) -> [u8; 20] {
    Sha1::digest(pdu.event_id().as_str()).into()
}
