//! Auth chains, their difference, and the conflicted state subgraph.

use std::collections::{BTreeSet, HashMap, HashSet};

use petgraph::{
    graph::{DiGraph, NodeIndex},
    visit::{Dfs, Reversed, Walker},
};
use ruma::{
    EventId, OwnedEventId,
    state_res::{StateMap, utils::event_id_set::EventIdSet},
};

use super::Events;

/// The auth chain of each state, less what the chains of the events common to all states contain.
///
/// Leaving that out is leaving out the same from all, and so changes no difference of chains. It is also
/// what keeps this cheap: the common part is walked once, and each state only where it goes its own way.
/// The error is the events whose auth events are not known to `auth_events`.
///
/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
pub fn auth_chains<'e>(
    states: &[StateMap<OwnedEventId>],
    auth_events: impl Fn(&EventId) -> Option<&'e [OwnedEventId]>,
) -> Result<Vec<EventIdSet<OwnedEventId>>, Vec<OwnedEventId>> {
    let mut missing = BTreeSet::new();
    let common = common_events(states);
    let mut shared: HashSet<OwnedEventId> = HashSet::new();
    walk(common.iter().copied(), &auth_events, &mut missing, |id| shared.insert(id.clone()));
    let mut chains = Vec::with_capacity(states.len());
    for state in states {
        let mut chain: HashSet<OwnedEventId> = HashSet::new();
        let own = state.values().filter(|id| !common.contains(*id) && !shared.contains(*id));
        walk(own, &auth_events, &mut missing, |id| !shared.contains(id) && chain.insert(id.clone()));
        chains.push(chain.into_iter().collect());
    }
    match missing.is_empty() {
        true => Ok(chains),
        false => Err(missing.into_iter().collect()),
    }
}

fn common_events(states: &[StateMap<OwnedEventId>]) -> HashSet<&OwnedEventId> {
    let Some((first, rest)) = states.split_first() else { return HashSet::new() };
    let in_all = |(key, id): &(&_, &OwnedEventId)| rest.iter().all(|state| state.get(*key) == Some(*id));
    first.iter().filter(in_all).map(|(_, id)| id).collect()
}

/// Walks from the auth events of `from` to theirs, as far as `enter` says that an event is new.
fn walk<'a, 'e: 'a>(
    from: impl Iterator<Item = &'a OwnedEventId>,
    auth_events: &impl Fn(&EventId) -> Option<&'e [OwnedEventId]>,
    missing: &mut BTreeSet<OwnedEventId>,
    mut enter: impl FnMut(&OwnedEventId) -> bool,
) {
    let mut queue: Vec<&OwnedEventId> = from.collect();
    while let Some(id) = queue.pop() {
        match auth_events(id) {
            Some(parents) => queue.extend(parents.iter().filter(|parent| enter(parent))),
            None => drop(missing.insert(id.clone())),
        }
    }
}

/// The conflicted events, and every event on a path of auth events from one of them to another.
///
/// <https://spec.matrix.org/v1.19/rooms/v12/#definitions>
pub(super) fn subgraph(
    conflicted: &StateMap<Vec<OwnedEventId>>,
    events: &Events<'_>,
) -> Option<EventIdSet<OwnedEventId>> {
    let mut graph: DiGraph<&OwnedEventId, ()> = DiGraph::new();
    let mut nodes: HashMap<&OwnedEventId, NodeIndex> = HashMap::new();
    let starts: Vec<NodeIndex> = conflicted
        .values()
        .flatten()
        .map(|id| *nodes.entry(id).or_insert_with(|| graph.add_node(id)))
        .collect();
    // Forward: all that the conflicted events stand on.
    let mut queue = starts.clone();
    while let Some(node) = queue.pop() {
        for parent in events.get(graph[node]).map(|pdu| pdu.auth_events()).unwrap_or_default() {
            let known = nodes.get(parent).copied();
            let target = known.unwrap_or_else(|| {
                let added = graph.add_node(parent);
                nodes.insert(parent, added);
                queue.push(added);
                added
            });
            graph.add_edge(node, target, ());
        }
    }
    // Back: of that, all that stands on a conflicted event.
    let mut reached: HashSet<NodeIndex> = HashSet::new();
    for start in starts {
        if !reached.contains(&start) {
            reached.extend(Dfs::new(Reversed(&graph), start).iter(Reversed(&graph)));
        }
    }
    Some(reached.into_iter().map(|node| graph[node].clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ruma::{OwnedEventId, state_res::StateMap};

    use super::auth_chains;

    fn id(name: &str) -> OwnedEventId {
        OwnedEventId::try_from(format!("${name}")).unwrap()
    }

    /// Edges as `event: auth events`; states as lists of events, each at a key that is its first letter.
    #[track_caller]
    fn check(edges: &str, states: &[&str], expected: &[&str]) {
        let edges: HashMap<OwnedEventId, Vec<OwnedEventId>> = edges
            .split(';')
            .map(|edge| edge.trim().split_once(':').unwrap())
            .map(|(event, parents)| (id(event), parents.split_whitespace().map(id).collect()))
            .collect();
        let states: Vec<StateMap<OwnedEventId>> = states
            .iter()
            .map(|state| {
                state
                    .split_whitespace()
                    .map(|name| (("t".into(), String::from(&name[..1])), id(name)))
                    .collect()
            })
            .collect();
        let found = auth_chains(&states, |id| edges.get(id).map(Vec::as_slice)).map(|chains| {
            let name = |id: &OwnedEventId| String::from(&id.as_str()[1..]);
            let sorted = |chain: Vec<String>| {
                let mut chain = chain;
                chain.sort();
                chain.join(" ")
            };
            chains.iter().map(|chain| sorted(chain.iter().map(name).collect())).collect::<Vec<_>>()
        });
        match found {
            Ok(found) => assert_eq!(found, expected),
            Err(missing) => assert_eq!(missing, expected.iter().map(|name| id(name)).collect::<Vec<_>>()),
        }
    }

    #[test]
    fn chains_leave_out_what_is_common() {
        let edges = "c:; p1: c; p2: p1; p3: p1; m1: c p1; m2: m1 p2";
        check(edges, &["c p2", "c p3"], &["c p1", "c p1"]);
        check(edges, &["c m1 p2", "c m1 p3"], &["", ""]);
        check(edges, &["c m2 p2", "c m1 p1"], &["c m1 p1 p2", "c p1"]);
        check("a: gone", &["a", "b"], &["b", "gone"]);
    }
}
