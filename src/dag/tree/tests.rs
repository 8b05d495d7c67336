//! The tree against a `BTreeMap`, and what its operations cost.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use ruma::OwnedEventId;

use super::{
    Applied, Change, NeedNodes, Node, NodeId, NodeSource, StateId, StateKey, StateValue, all, apply, diff,
    get, get_many, range,
};
use crate::types::Membership;

type Nodes = HashMap<NodeId, Arc<Node>>;

fn key(event_type: &str, state_key: &str) -> StateKey {
    StateKey::new(event_type.into(), state_key)
}

fn value(number: u64) -> StateValue {
    let event_id = match number % 3 {
        0 => format!("$opaque{number}:a.org"),
        1 => format!("${number:0>42}A"),
        _ => format!("${number:+>42}A"),
    };
    let membership = [None, Some(Membership::Join), Some(Membership::Ban)][(number % 3) as usize];
    StateValue { event_id: OwnedEventId::try_from(event_id).unwrap(), membership }
}

fn change(nodes: &mut Nodes, state: StateId, changes: &[(StateKey, Option<StateValue>)]) -> (StateId, usize) {
    let Applied { state, nodes: new } = apply(nodes, state, changes.iter().cloned()).unwrap();
    let written = new.len();
    for node in new {
        assert_eq!(Node::decode(&node.id, &node.bytes).unwrap(), *node.node);
        nodes.insert(node.id, node.node);
    }
    (state, written)
}

fn content(nodes: &Nodes, state: StateId) -> BTreeMap<StateKey, StateValue> {
    all(nodes, state).unwrap().into_iter().map(|entry| (entry.key, entry.value)).collect()
}

fn members(count: u64) -> Vec<(StateKey, Option<StateValue>)> {
    (0..count).map(|n| (key("m.room.member", &format!("@user{n}:a.org")), Some(value(n)))).collect()
}

fn naive(a: &BTreeMap<StateKey, StateValue>, b: &BTreeMap<StateKey, StateValue>) -> Vec<Change> {
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
    keys.into_iter()
        .filter(|key| a.get(key) != b.get(key))
        .map(|key| Change { before: a.get(&key).cloned(), after: b.get(&key).cloned(), key })
        .collect()
}

fn steps() -> impl Strategy<Value = Vec<(u8, u16, Option<u8>)>> {
    proptest::collection::vec((0_u8..3, 0_u16..300, any::<Option<u8>>()), 0..400)
}

fn step((event_type, state_key, number): (u8, u16, Option<u8>)) -> (StateKey, Option<StateValue>) {
    let event_type = ["m.room.member", "m.room.topic", "x"][usize::from(event_type)];
    (key(event_type, &format!("k{state_key}")), number.map(|n| value(u64::from(n))))
}

proptest! {
    #[test]
    fn behaves_like_a_map(first in steps(), second in steps()) {
        let (mut nodes, mut model) = (Nodes::new(), BTreeMap::new());
        let mut states = Vec::new();
        let mut state = StateId::EMPTY;
        for half in [first, second] {
            let changes: Vec<_> = half.into_iter().map(step).collect();
            state = change(&mut nodes, state, &changes).0;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            prop_assert_eq!(&content(&nodes, state), &model);
            states.push((state, model.clone()));
        }
        for (event_type, part) in [("m.room.member", 0), ("m.room.topic", 1), ("x", 2), ("n", 3)] {
            let found = range(&nodes, state, &event_type.into()).unwrap();
            let expected = model.keys().filter(|key| key.event_type.to_string() == event_type).count();
            prop_assert_eq!(found.len(), expected, "part {}", part);
        }
        let keys: Vec<_> = (0..300).map(|n| key("x", &format!("k{n}"))).collect();
        let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
        prop_assert_eq!(get_many(&nodes, state, &keys).unwrap(), expected);

        let found = diff(&nodes, states[0].0, states[1].0).unwrap();
        prop_assert_eq!(found, naive(&states[0].1, &states[1].1));
        let from_nothing = diff(&nodes, StateId::EMPTY, state).unwrap();
        prop_assert_eq!(from_nothing.len(), model.len());

        // The same content, made at once and from nothing, has the same root.
        let rebuilt = apply(&nodes, StateId::EMPTY, model.into_iter().map(|(k, v)| (k, Some(v)))).unwrap();
        prop_assert!(rebuilt.state == state);
    }

    #[test]
    fn garbage_is_no_node(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let id = super::node::node_id(&bytes);
        if let Ok(node) = Node::decode(&id, &bytes) {
            prop_assert!(!node.entries().is_empty());
        }
    }
}

#[test]
fn order_of_insertion_leaves_no_trace() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut changes = members(500);
    let mut nodes = Nodes::new();
    let expected = change(&mut nodes, StateId::EMPTY, &changes).0;
    for _ in 0..5 {
        changes.shuffle(&mut rng);
        let mut state = StateId::EMPTY;
        for one in &changes {
            state = change(&mut nodes, state, std::slice::from_ref(one)).0;
        }
        assert_eq!(state, expected);
    }
    changes.iter_mut().for_each(|(_, value)| *value = None);
    assert_eq!(change(&mut nodes, expected, &changes).0, StateId::EMPTY);
}

#[test]
fn a_change_to_a_large_state_writes_a_path() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes = Nodes::new();
    let state = change(&mut nodes, StateId::EMPTY, &members(10_000)).0;
    let (mut total_nodes, mut total_bytes) = (0, 0);
    for round in 0..300_u64 {
        let user = format!("@user{}:a.org", rng.random_range(0..20_000));
        let new = (key("m.room.member", &user), (round % 4 > 0).then(|| value(90_000 + round)));
        let applied = apply(&nodes, state, [new]).unwrap();
        // An entry of the highest level may part the whole tree in two, so the bound is twice its height.
        assert!(applied.nodes.len() < 12, "{user} wrote {} nodes", applied.nodes.len());
        total_nodes += applied.nodes.len();
        total_bytes += applied.nodes.iter().map(|node| node.bytes.len()).sum::<usize>();
    }
    println!("nodes {} and bytes {} a change", total_nodes as f64 / 300.0, total_bytes / 300);
    assert!(total_nodes < 300 * 6, "{total_nodes} nodes for 300 changes");
}

/// A source that counts, and that lacks what was not loaded into it.
struct Partial<'a> {
    store: &'a Nodes,
    loaded: Nodes,
    rounds: usize,
}

impl NodeSource for Partial<'_> {
    fn get(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.loaded.get(id).cloned()
    }
}

impl Partial<'_> {
    fn run<T>(store: &Nodes, ask: impl Fn(&Partial<'_>) -> Result<T, NeedNodes>) -> (T, usize, usize) {
        let mut source = Partial { store, loaded: Nodes::new(), rounds: 0 };
        loop {
            match ask(&source) {
                Ok(answer) => return (answer, source.loaded.len(), source.rounds),
                Err(NeedNodes(ids)) => {
                    assert!(!ids.is_empty());
                    source.rounds += 1;
                    for id in ids {
                        assert!(source.loaded.insert(id, source.store[&id].clone()).is_none(), "asked twice");
                    }
                }
            }
        }
    }
}

#[test]
fn missing_nodes_are_asked_for_level_by_level() {
    let mut nodes = Nodes::new();
    let state = change(&mut nodes, StateId::EMPTY, &members(10_000)).0;
    let some = [
        (key("m.room.member", "@user77:a.org"), None),
        (key("m.room.member", "@user5000:a.org"), Some(value(1_000_000))),
        (key("m.room.topic", ""), Some(value(1_000_001))),
    ];
    let changed = change(&mut nodes, state, &some).0;

    let (found, loaded, rounds) = Partial::run(&nodes, |source| diff(source, state, changed));
    assert_eq!(found.len(), 3);
    assert!(loaded < 60 && rounds < 15, "diff loaded {loaded} nodes in {rounds} rounds");

    let (entries, _, rounds) = Partial::run(&nodes, |source| all(source, state));
    assert_eq!(entries.len(), 10_000);
    assert!(rounds < 10, "{rounds} rounds for a scan");

    let one = key("m.room.member", "@user9999:a.org");
    let (found, loaded, _) = Partial::run(&nodes, |source| get(source, state, &one));
    assert_eq!(found, Some(value(9_999)));
    assert!(loaded < 10, "one lookup loaded {loaded}");

    let (applied, _, rounds) = Partial::run(&nodes, |source| apply(source, state, some.clone()));
    assert_eq!(applied.state, changed);
    assert!(rounds < 15, "{rounds} rounds for three changes");
}
