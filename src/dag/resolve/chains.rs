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

/// The auth chain of `events`: their auth events, and theirs, back to the create event.
///
/// The error is the events whose auth events are not known to `auth_events`.
///
/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
pub fn auth_chain<'a, 'e: 'a>(
    events: impl Iterator<Item = &'a OwnedEventId>,
    auth_events: impl Fn(&EventId) -> Option<&'e [OwnedEventId]>,
) -> Result<HashSet<OwnedEventId>, Vec<OwnedEventId>> {
    let (mut chain, mut missing) = (HashSet::new(), BTreeSet::new());
    walk(events, &auth_events, &mut missing, |id| chain.insert(id.clone()));
    match missing.is_empty() {
        true => Ok(chain),
        false => Err(missing.into_iter().collect()),
    }
}

/// The auth chain of each of `states`, less what is `shared`: in the auth chain of the state that all have
/// in common. `states` need be no more than where they differ.
///
/// Leaving that out is leaving out the same from all, and so changes no difference of chains. It is also
/// what keeps this cheap: the common part is walked once, or answered by an index, and each state is
/// walked only where it goes its own way.
pub fn auth_chains_beyond<'e>(
    states: &[StateMap<OwnedEventId>],
    shared: impl Fn(&EventId) -> bool,
    auth_events: impl Fn(&EventId) -> Option<&'e [OwnedEventId]>,
) -> Result<Vec<EventIdSet<OwnedEventId>>, Vec<OwnedEventId>> {
    let mut missing = BTreeSet::new();
    let mut chains = Vec::with_capacity(states.len());
    for state in states {
        let mut chain: HashSet<OwnedEventId> = HashSet::new();
        let own = state.values().filter(|id| !shared(id));
        walk(own, &auth_events, &mut missing, |id| !shared(id) && chain.insert(id.clone()));
        chains.push(chain.into_iter().collect());
    }
    match missing.is_empty() {
        true => Ok(chains),
        false => Err(missing.into_iter().collect()),
    }
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
    use std::collections::{BTreeSet, HashMap};

    use ruma::{
        EventId, OwnedEventId,
        state_res::{StateMap, utils::event_id_set::EventIdSet},
    };

    use super::{auth_chain, auth_chains_beyond};

    fn id(name: &str) -> OwnedEventId {
        OwnedEventId::try_from(format!("${name}")).unwrap()
    }

    /// Edges as `event: auth events`; what is common; states as lists of events.
    #[track_caller]
    fn check(edges: &str, common: &str, states: &[&str], expected: &[&str]) {
        let edges: HashMap<OwnedEventId, Vec<OwnedEventId>> = edges
            .split(';')
            .map(|edge| edge.trim().split_once(':').unwrap())
            .map(|(event, parents)| (id(event), parents.split_whitespace().map(id).collect()))
            .collect();
        let state = |text: &&str| -> StateMap<OwnedEventId> {
            text.split_whitespace().map(|name| (("t".into(), String::from(name)), id(name))).collect()
        };
        let states: Vec<_> = states.iter().map(state).collect();
        let lookup = |id: &EventId| edges.get(id).map(Vec::as_slice);
        let shared = auth_chain(state(&common).values(), lookup).unwrap();
        let found = auth_chains_beyond(&states, |id| shared.contains(id), lookup).map(|chains| {
            let words = |chain: &EventIdSet<OwnedEventId>| {
                let names: BTreeSet<&str> = chain.iter().map(|id| &id.as_str()[1..]).collect();
                names.into_iter().collect::<Vec<_>>().join(" ")
            };
            chains.iter().map(words).collect::<Vec<_>>()
        });
        let found = found.unwrap_or_else(|missing| missing.iter().map(|id| format!("no {id}")).collect());
        assert_eq!(found, expected);
    }

    #[test]
    fn chains_leave_out_what_is_common() {
        let edges = "c:; p1: c; p2: p1; p3: p1; m1: c p1; m2: m1 p2";
        check(edges, "c", &["p2", "p3"], &["c p1", "c p1"]);
        check(edges, "c m1", &["p2", "p3"], &["", ""]);
        check(edges, "c", &["m2 p2", "m1 p1"], &["c m1 p1 p2", "c p1"]);
        check("a: gone", "", &["a", "b"], &["no $b", "no $gone"]);
    }
}
