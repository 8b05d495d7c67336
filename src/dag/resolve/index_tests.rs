//! The auth chain index against whole chains, on random graphs of auth events.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{EventId, OwnedEventId, state_res::StateMap};

use super::{
    Citer, Citers, Need, auth_chain, authorises,
    between::Between,
    chains::auth_chains_beyond,
    difference::{Bits, Difference},
    index::Lore,
};
use crate::dag::tree::{NeedNodes, NodeId, StateKey};

const TYPES: [&str; 7] = [
    "m.room.create",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.member",
    "m.room.member",
    "m.room.topic",
    "org.example.thing",
];

/// A room without contents: places, auth events and citers of its events.
struct Graph {
    events: BTreeMap<OwnedEventId, (StateKey, Vec<OwnedEventId>)>,
    order: Vec<OwnedEventId>,
    citers: HashMap<OwnedEventId, Vec<Citer>>,
}

impl Graph {
    fn random(rng: &mut StdRng, size: usize) -> Self {
        let mut graph = Self { events: BTreeMap::new(), order: Vec::new(), citers: HashMap::new() };
        let reach = rng.random_range(2..=size);
        for number in 0..size {
            let id = OwnedEventId::try_from(format!("${number:04}")).unwrap();
            let kind = TYPES[rng.random_range(0..TYPES.len())];
            let key =
                if kind.ends_with("member") { rng.random_range(0..5).to_string() } else { String::new() };
            let place = StateKey::new(kind.into(), &key);
            let mut auth_events = BTreeSet::new();
            for _ in 0..rng.random_range(0..4) {
                let back = rng.random_range(0..reach.min(number.max(1)));
                let cited = number.checked_sub(back + 1).and_then(|index| graph.order.get(index));
                auth_events.extend(cited.filter(|id| authorises(&graph.events[*id].0.event_type)).cloned());
            }
            for cited in &auth_events {
                let citer = Citer { event_id: id.clone(), place: place.clone() };
                let known = graph.citers.entry(cited.clone()).or_default();
                // As the store does: one for each place of those that authorise nothing.
                if !authorises(&place.event_type) {
                    known.retain(|other| other.place != place);
                }
                known.push(citer);
            }
            graph.events.insert(id.clone(), (place, auth_events.into_iter().collect()));
            graph.order.push(id);
        }
        graph
    }

    fn auth_events(&self, id: &EventId) -> Option<&[OwnedEventId]> {
        self.events.get(id).map(|(_, auth_events)| auth_events.as_slice())
    }

    fn random_state(
        &self,
        rng: &mut StdRng,
        common: &BTreeMap<StateKey, OwnedEventId>,
    ) -> StateMap<OwnedEventId> {
        let mut state = common.clone();
        for _ in 0..rng.random_range(0..4) {
            let id = &self.order[rng.random_range(0..self.order.len())];
            let place = self.events[id].0.clone();
            match rng.random_bool(0.8) {
                true => drop(state.insert(place, id.clone())),
                false => drop(state.remove(&place)),
            }
        }
        state.into_iter().map(|(key, id)| ((key.event_type, key.state_key), id)).collect()
    }
}

/// What was loaded of a graph: nothing at first.
struct Loaded<'a> {
    graph: &'a Graph,
    common: BTreeMap<StateKey, OwnedEventId>,
    events: BTreeSet<OwnedEventId>,
    places: BTreeSet<StateKey>,
    asked: std::cell::RefCell<BTreeSet<StateKey>>,
    citers: HashMap<OwnedEventId, Citers>,
    reads: usize,
    /// Whether depths say nothing.
    lies: bool,
}

impl Lore for Loaded<'_> {
    fn auth_events(&self, id: &EventId) -> Option<&[OwnedEventId]> {
        self.events.contains(id).then(|| self.graph.auth_events(id)).flatten()
    }

    /// The number of the event, unless it lies.
    fn depth(&self, id: &EventId) -> Option<u64> {
        let number = || id.as_str()[1..].parse().unwrap_or(0);
        self.events.contains(id).then(|| if self.lies { 7 } else { number() })
    }

    fn citers(&self, id: &EventId) -> Option<&Citers> {
        self.citers.get(id)
    }

    fn standing(&self, place: &StateKey) -> Result<Option<OwnedEventId>, NeedNodes> {
        if !self.places.contains(place) {
            self.asked.borrow_mut().insert(place.clone());
            return Err(NeedNodes(vec![NodeId([1; 16])]));
        }
        Ok(self.common.get(place).cloned())
    }
}

impl Loaded<'_> {
    fn load(&mut self, need: Need) {
        assert!(!need.is_empty());
        self.reads += need.events.len() + need.citers.len();
        self.events.extend(need.events);
        if !need.nodes.is_empty() {
            self.places.extend(self.asked.take());
        }
        for id in need.citers {
            let all = self.graph.citers.get(&id).map(Vec::as_slice).unwrap_or_default();
            let known = self.citers.entry(id).or_default();
            assert!(!known.is_whole, "there are no more");
            let end = (known.found.len() + 2).min(all.len());
            known.found = all[..end].to_vec();
            known.is_whole = end == all.len();
        }
    }
}

#[test]
fn the_index_and_whole_chains_tell_the_same() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let size = rng.random_range(2..60);
        let graph = Graph::random(&mut rng, size);
        let count = rng.random_range(2..6);
        let shared: BTreeMap<StateKey, OwnedEventId> = (0..rng.random_range(0..20))
            .map(|_| &graph.order[rng.random_range(0..size)])
            .map(|id| (graph.events[id].0.clone(), id.clone()))
            .collect();
        let states: Vec<_> = (0..count).map(|_| graph.random_state(&mut rng, &shared)).collect();
        check(&graph, &states);
    }
}

#[track_caller]
fn check(graph: &Graph, states: &[StateMap<OwnedEventId>]) {
    let lookup = |id: &EventId| graph.auth_events(id);
    // Whole chains.
    let chains = auth_chains_beyond(states, |_| false, lookup).unwrap();
    let union: BTreeSet<&OwnedEventId> = chains.iter().flat_map(|chain| chain.iter()).collect();
    let expected: BTreeSet<&OwnedEventId> =
        union.into_iter().filter(|id| !chains.iter().all(|chain| chain.contains(id))).collect();
    // The index.
    let common: BTreeMap<StateKey, OwnedEventId> = states[0]
        .iter()
        .filter(|(key, id)| states.iter().all(|state| state.get(*key) == Some(*id)))
        .map(|(key, id)| (key.clone().into(), id.clone()))
        .collect();
    let mut roots: HashMap<&OwnedEventId, Bits> = HashMap::new();
    for (index, state) in states.iter().enumerate() {
        let own = state.iter().filter(|(key, _)| !common.contains_key(&(*key).clone().into()));
        own.for_each(|(_, id)| roots.entry(id).or_insert_with(|| Bits::none(states.len())).set(index));
    }
    let mut loaded = Loaded {
        graph,
        common,
        events: BTreeSet::new(),
        places: BTreeSet::new(),
        asked: BTreeSet::new().into(),
        citers: HashMap::new(),
        reads: 0,
        lies: states.len().is_multiple_of(2),
    };
    let roots: HashMap<OwnedEventId, Bits> = roots.into_iter().map(|(id, bits)| (id.clone(), bits)).collect();
    let mut difference = Difference::new(roots.clone(), states.len());
    loop {
        let mut need = Need::default();
        difference.walk(&loaded, &mut need);
        if need.is_empty() {
            break;
        }
        loaded.load(need);
    }
    let found = difference.end();
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected);

    let conflicted: BTreeSet<OwnedEventId> = roots.into_keys().collect();
    let mut between = Between::new(conflicted.clone());
    let found = loop {
        let mut need = Need::default();
        match between.walk(&loaded, &mut need) {
            Some(found) => break found,
            None => loaded.load(need),
        }
    };
    let stands_on_conflict = |id: &OwnedEventId| {
        conflicted.contains(id)
            || auth_chain([id].into_iter(), lookup).unwrap().iter().any(|id| conflicted.contains(id))
    };
    let chain = auth_chain(conflicted.iter(), lookup).unwrap();
    let expected: BTreeSet<&OwnedEventId> =
        chain.iter().chain(&conflicted).filter(|id| stands_on_conflict(id)).collect();
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected);
}

/// A long room in which only the newest events differ.
#[test]
fn old_events_are_not_read() {
    let mut graph = Graph { events: BTreeMap::new(), order: Vec::new(), citers: HashMap::new() };
    let mut add = |name: String, kind: &str, key: &str, cited: Vec<String>| {
        let id = |name: &str| OwnedEventId::try_from(format!("${name}")).unwrap();
        let place = StateKey::new(kind.into(), key);
        for cited in &cited {
            let citer = Citer { event_id: id(&name), place: place.clone() };
            graph.citers.entry(id(cited)).or_default().push(citer);
        }
        graph.events.insert(id(&name), (place, cited.iter().map(|name| id(name)).collect()));
        graph.order.push(id(&name));
    };
    add("create".into(), "m.room.create", "", vec![]);
    add("rules0".into(), "m.room.join_rules", "", vec!["create".into()]);
    add("rules".into(), "m.room.join_rules", "", vec!["create".into()]);
    for number in 0..2_000 {
        let rules = if number < 1_000 { "rules0" } else { "rules" };
        let user = number.to_string();
        add(format!("join{number}"), "m.room.member", &user, vec!["create".into(), rules.into()]);
    }
    for number in 2_000..2_002 {
        let cited = vec!["create".into(), "rules0".into(), "join5".into()];
        add(format!("join{number}"), "m.room.member", "new", cited);
    }
    let common: BTreeMap<StateKey, OwnedEventId> = graph.order[..2_003]
        .iter()
        .filter(|id| id.as_str() != "$rules0")
        .map(|id| (graph.events[id].0.clone(), id.clone()))
        .collect();
    let places = graph.events.values().map(|(place, _)| place.clone()).collect();
    let mut loaded = Loaded {
        graph: &graph,
        common,
        events: BTreeSet::new(),
        places,
        asked: BTreeSet::new().into(),
        citers: HashMap::new(),
        reads: 0,
        lies: false,
    };
    let conflicted = [&graph.order[2_003], &graph.order[2_004]];
    // In the strict sense of an auth chain, the common state does not have what nothing in it names.
    let roots = conflicted.map(|id| (id.clone(), Bits::all(2)));
    let mut difference = Difference::new(roots.into_iter().collect(), 2);
    loop {
        let mut need = Need::default();
        difference.walk(&loaded, &mut need);
        if need.is_empty() {
            break;
        }
        loaded.load(need);
    }
    assert!(difference.end().is_empty());
    assert!(loaded.reads < 20, "{} reads", loaded.reads);
}

/// Somebody who has come and gone many times is banned on one branch.
#[test]
fn what_all_chains_have_is_not_walked() {
    let mut graph = Graph { events: BTreeMap::new(), order: Vec::new(), citers: HashMap::new() };
    for number in 0..1_000_usize {
        let id = |number: usize| OwnedEventId::try_from(format!("${number:04}")).unwrap();
        let place = StateKey::new("m.room.member".into(), "guest");
        let cited: Vec<_> = number.checked_sub(1).map(id).into_iter().collect();
        for cited in &cited {
            let citer = Citer { event_id: id(number), place: place.clone() };
            graph.citers.entry(cited.clone()).or_default().push(citer);
        }
        graph.events.insert(id(number), (place, cited));
        graph.order.push(id(number));
    }
    let mut loaded = Loaded {
        graph: &graph,
        common: BTreeMap::new(),
        events: BTreeSet::new(),
        places: graph.events.values().map(|(place, _)| place.clone()).collect(),
        asked: BTreeSet::new().into(),
        citers: HashMap::new(),
        reads: 0,
        lies: false,
    };
    let (mut before, mut banned) = (Bits::none(2), Bits::none(2));
    before.set(0);
    banned.set(1);
    let roots = [(graph.order[998].clone(), before), (graph.order[999].clone(), banned)];
    let mut difference = Difference::new(roots.into(), 2);
    loop {
        let mut need = Need::default();
        difference.walk(&loaded, &mut need);
        if need.is_empty() {
            break;
        }
        loaded.load(need);
    }
    assert_eq!(difference.end().iter().collect::<Vec<_>>(), [&graph.order[998]]);
    assert!(loaded.reads < 20, "{} reads", loaded.reads);
}
