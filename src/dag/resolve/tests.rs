//! Forks of rooms, and which branch wins.

use std::{collections::HashMap, sync::Arc};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use ruma::{OwnedEventId, room_version_rules::RoomVersionRules, state_res::StateMap};
use serde_json::{Value, json};

use super::{
    AtHand, Merge, MergeError, MergeStop, ResolveError, auth_chains_beyond, merge, resolve,
    resolve_with_chains,
};
use crate::dag::{
    NeedNodes, Node, NodeId, Pdu, StateId, tree, versions,
    world::{World, user},
};

type Step = (&'static str, &'static str, &'static str, Value);

fn member(sender: &'static str, target: &'static str, membership: &str) -> Step {
    (sender, "m.room.member", target, json!({ "membership": membership }))
}

fn name(sender: &'static str, text: &str) -> Step {
    (sender, "m.room.name", "", json!({ "name": text }))
}

fn power(version: &str, bob: i64) -> Value {
    match version {
        "12" => json!({"users": {"@bob:b.org": bob}}),
        _ => json!({"users": {"@alice:a.org": 100, "@bob:b.org": bob}}),
    }
}

/// A room with bob as a moderator, and carol and dan in it.
fn room(version: &str) -> World {
    let mut world = World::new(version);
    for name in ["bob:b.org", "carol:c.org", "dan:c.org"] {
        world.join(name);
    }
    world.send("alice", "m.room.power_levels", Some(""), power(version, 50)).unwrap();
    world
}

fn branch(base: &World, steps: &[Step], start: u32) -> World {
    let mut world = base.clone();
    world.now += start;
    for (sender, event_type, key, content) in steps {
        world.send(sender, event_type, Some(key), content.clone()).unwrap();
    }
    world
}

/// Resolves the branches in every order that `seed` gives, and insists on one outcome.
#[track_caller]
fn resolved(branches: &[World]) -> HashMap<(String, String), Pdu> {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let events: HashMap<OwnedEventId, Pdu> = branches.iter().flat_map(|world| world.events.clone()).collect();
    let mut states: Vec<StateMap<OwnedEventId>> = branches.iter().map(World::state_ids).collect();
    let rules = branches[0].rules;
    let expected = resolve(rules, &states, &events).unwrap();
    for _ in 0..6 {
        states.shuffle(&mut rng);
        assert_eq!(resolve(rules, &states, &events).unwrap(), expected, "depends on the order");
    }
    check_loading(branches, &events, &expected);
    check_whole(branches, &events, &expected);
    check_trees(branches, &events, &expected);
    expected
        .into_iter()
        .map(|((event_type, key), id)| ((event_type.to_string(), key), events[&id].clone()))
        .collect()
}

/// Whole states with whole chains, as the specification has it, resolve to the same.
#[track_caller]
fn check_whole(branches: &[World], events: &HashMap<OwnedEventId, Pdu>, expected: &StateMap<OwnedEventId>) {
    let states: Vec<StateMap<OwnedEventId>> = branches.iter().map(World::state_ids).collect();
    let chains = auth_chains_beyond(&states, |_| false, |id| events.get(id).map(Pdu::auth_events)).unwrap();
    let found = resolve_with_chains(branches[0].rules, &states, chains, events).unwrap();
    assert_eq!(found, *expected);
}

/// Loading only what is asked for ends, and ends in the same state.
#[track_caller]
fn check_loading(branches: &[World], events: &HashMap<OwnedEventId, Pdu>, expected: &StateMap<OwnedEventId>) {
    let states: Vec<StateMap<OwnedEventId>> = branches.iter().map(World::state_ids).collect();
    let mut loaded = HashMap::new();
    for _ in 0..100 {
        match resolve(branches[0].rules, &states, &loaded) {
            Ok(found) => return assert_eq!(found, *expected),
            Err(ResolveError::Missing(ids)) => {
                assert!(!ids.is_empty());
                loaded.extend(ids.into_iter().map(|id| (id.clone(), events[&id].clone())));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("loading did not end");
}

/// Two branches from one room; what stands at `key` in the end, as the sender and the content.
#[track_caller]
fn check(versions: &[&str], left: &[Step], right: &[Step], key: (&str, &str), expected: (&str, Value)) {
    for version in versions {
        let base = room(version);
        let branches = [branch(&base, left, 0), branch(&base, right, 1_000)];
        let state = resolved(&branches);
        let found = state.get(&(String::from(key.0), String::from(key.1)));
        let found = found.map(|pdu| (pdu.sender().to_owned(), pdu.content_as::<Value>().unwrap()));
        assert_eq!(found, Some((user(expected.0), expected.1.clone())), "version {version}");
    }
}

const ALL: [&str; 6] = ["1", "2", "6", "10", "11", "12"];
const SINCE_2: [&str; 5] = ["2", "6", "10", "11", "12"];

#[test]
fn what_only_one_branch_has_stays() {
    let topic = ("bob:b.org", "m.room.topic", "", json!({"topic": "t"}));
    check(
        &ALL,
        &[name("alice", "n")],
        std::slice::from_ref(&topic),
        ("m.room.name", ""),
        ("alice", json!({"name": "n"})),
    );
    check(&ALL, &[name("alice", "n")], &[topic], ("m.room.topic", ""), ("bob:b.org", json!({"topic": "t"})));
}

#[test]
fn the_later_name_wins_among_equals() {
    check(
        &SINCE_2,
        &[name("alice", "early")],
        &[name("bob:b.org", "late")],
        ("m.room.name", ""),
        ("bob:b.org", json!({"name": "late"})),
    );
}

#[test]
fn in_version_1_the_deeper_name_wins() {
    let deep = [member("carol:c.org", "@carol:c.org", "leave"), name("alice", "deep")];
    check(
        &["1"],
        &deep,
        &[name("bob:b.org", "late")],
        ("m.room.name", ""),
        ("alice", json!({"name": "deep"})),
    );
}

#[test]
fn a_ban_beats_what_the_banned_one_does_meanwhile() {
    check(
        &SINCE_2,
        &[member("alice", "@bob:b.org", "ban")],
        &[name("bob:b.org", "mine")],
        ("m.room.member", "@bob:b.org"),
        ("alice", json!({"membership": "ban"})),
    );
    for version in SINCE_2 {
        let base = room(version);
        let ban = branch(&base, &[member("alice", "@bob:b.org", "ban")], 0);
        let named = branch(&base, &[name("bob:b.org", "mine")], 1_000);
        let state = resolved(&[ban, named]);
        assert!(!state.contains_key(&(String::from("m.room.name"), String::new())), "version {version}");
    }
}

#[test]
fn the_stronger_of_two_power_events_comes_first() {
    for version in SINCE_2 {
        let base = room(version);
        let demoted = ("alice", "m.room.power_levels", "", power(version, 0));
        let banned = member("bob:b.org", "@carol:c.org", "ban");
        let state = resolved(&[branch(&base, &[banned], 0), branch(&base, &[demoted], 1_000)]);
        let carol = &state[&(String::from("m.room.member"), String::from("@carol:c.org"))];
        assert_eq!(carol.content_as::<Value>().unwrap()["membership"], "join", "version {version}");
    }
}

#[test]
fn many_branches_resolve_to_one_state() {
    for version in versions::SUPPORTED {
        let base = room(version.as_str());
        let branches: Vec<World> = (0_u32..8)
            .map(|n| {
                let who = ["alice", "bob:b.org"][n as usize % 2];
                let target = ["@carol:c.org", "@dan:c.org"][n as usize % 2];
                let steps = match n {
                    0..4 => vec![name(who, &n.to_string()), member(who, target, "ban")],
                    4 => vec![("alice", "m.room.join_rules", "", json!({"join_rule": "invite"}))],
                    5 => vec![("alice", "m.room.power_levels", "", power(version.as_str(), 0))],
                    _ => vec![member("dan:c.org", "@dan:c.org", "leave"), name(who, &n.to_string())],
                };
                branch(&base, &steps, n * 100)
            })
            .collect();
        let state = resolved(&branches);
        let carol = &state[&(String::from("m.room.member"), String::from("@carol:c.org"))];
        if version.as_str() != "1" {
            assert_eq!(carol.content_as::<Value>().unwrap()["membership"], "ban", "version {version}");
        }
    }
}

/// Version 12 replays from nothing: a member whose join was lost in one branch stays in the room.
#[test]
fn version_12_keeps_what_the_conflict_stands_on() {
    let base = room("12");
    let left = branch(&base, &[member("carol:c.org", "@carol:c.org", "leave"), name("alice", "a")], 0);
    let back =
        branch(&base, &[name("bob:b.org", "b"), ("alice", "m.room.power_levels", "", power("12", 60))], 500);
    let again = branch(&back, &[name("bob:b.org", "c")], 900);
    let state = resolved(&[left, back, again]);
    let at = |event_type: &str, key: &str| &state[&(String::from(event_type), String::from(key))];
    assert_eq!(at("m.room.member", "@carol:c.org").content_as::<Value>().unwrap()["membership"], "leave");
    assert_eq!(at("m.room.name", "").content_as::<Value>().unwrap()["name"], "c");
    assert_eq!(at("m.room.member", "@bob:b.org").sender(), user("bob:b.org"));
}

#[test]
fn one_state_or_none_needs_no_events() {
    let world = room("12");
    let state = world.state_ids();
    let none = HashMap::new();
    assert_eq!(resolve(world.rules, &[state.clone(), state.clone()], &none).unwrap(), state);
    assert!(resolve(world.rules, &[], &none).unwrap().is_empty());
}

/// The same, on states that are kept as trees, where only what is asked for is loaded.
#[track_caller]
fn check_trees(branches: &[World], events: &HashMap<OwnedEventId, Pdu>, expected: &StateMap<OwnedEventId>) {
    let mut nodes = HashMap::new();
    let mut plant = |entries: Vec<&Pdu>| {
        let entries = entries.into_iter().filter_map(tree::entry_of).map(|(key, value)| (key, Some(value)));
        let applied = tree::apply(&nodes, StateId::EMPTY, entries).unwrap();
        nodes.extend(applied.nodes.into_iter().map(|node| (node.id, node.node)));
        applied.state
    };
    let states: Vec<StateId> = branches.iter().map(|world| plant(world.state.values().collect())).collect();
    let wanted = plant(expected.values().map(|id| &events[id]).collect());
    check_index(branches[0].rules, &states, (&nodes, events), wanted);
    let (mut have_nodes, mut have_events) = (HashMap::new(), HashMap::new());
    for _ in 0..100 {
        match merge(branches[0].rules, &states, &have_nodes, &have_events) {
            Ok(applied) => return assert_eq!(applied.state, wanted),
            Err(MergeError::Nodes(NeedNodes(ids))) => {
                have_nodes.extend(ids.into_iter().map(|id| (id, Arc::clone(&nodes[&id]))));
            }
            Err(MergeError::Resolve(ResolveError::Missing(ids))) => {
                have_events.extend(ids.into_iter().map(|id| (id.clone(), events[&id].clone())));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("loading did not end");
}

/// The same with the auth chain index.
#[track_caller]
fn check_index(
    rules: &RoomVersionRules,
    states: &[StateId],
    (nodes, events): (&HashMap<NodeId, Arc<Node>>, &HashMap<OwnedEventId, Pdu>),
    wanted: StateId,
) {
    let all = AtHand::whole(events.clone());
    let at_once = Merge::new(rules, states).advance(nodes, &all).unwrap();
    assert_eq!(at_once.state, wanted);
    let (mut have_nodes, mut have) = (HashMap::new(), AtHand::default());
    let mut merge = Merge::new(rules, states);
    for _ in 0..200 {
        match merge.advance(&have_nodes, &have) {
            Ok(applied) => return assert_eq!(applied.state, wanted),
            Err(MergeStop::Need(need)) => {
                assert!(!need.is_empty());
                have_nodes.extend(need.nodes.into_iter().map(|id| (id, Arc::clone(&nodes[&id]))));
                have.events.extend(need.events.into_iter().map(|id| (id.clone(), events[&id].clone())));
                have.citers.extend(need.citers.into_iter().map(|id| (id.clone(), all.citers[&id].clone())));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("loading did not end");
}

/// What stands at `key` where one branch is taken to have `old` in its place, as servers believe that were given
/// an outdated state.
fn with_outdated(base: &World, old: &Pdu) -> Option<Pdu> {
    let position = old.state_position().unwrap();
    let mut outdated = base.clone();
    outdated.state.insert(position.clone(), old.clone());
    resolved(&[base.clone(), outdated]).get(&(position.0.to_string(), position.1)).cloned()
}

/// Row 8 (f): what has gone on from the unconflicted state must not judge what is older than it.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4297-state-resolution-v2_1.md>
#[test]
fn row_8_f_who_has_left_has_set_the_join_rules_all_the_same() {
    for (version, stays) in [("11", false), ("12", true)] {
        let mut world = World::new(version);
        let old = world.at(&"m.room.join_rules".into(), "").unwrap();
        world.join("bob:b.org");
        world.send("alice", "m.room.power_levels", Some(""), power(version, 100)).unwrap();
        let rule = json!({ "join_rule": "public", "new": true });
        let new = world.send("alice", "m.room.join_rules", Some(""), rule).unwrap();
        world.send("alice", "m.room.member", Some("@alice:a.org"), json!({ "membership": "leave" })).unwrap();
        world.join("carol:c.org");
        let found = with_outdated(&world, &old).map(|pdu| pdu.event_id().to_owned());
        assert_eq!(found, stays.then(|| new.event_id().to_owned()), "version {version}");
    }
}

/// Row 8 (f): what lies between conflicting events is replayed with them.
#[test]
fn row_8_f_who_was_promoted_has_promoted_others_all_the_same() {
    for (version, stays) in [("11", false), ("12", true)] {
        let mut world = World::new(version);
        let old = world.at(&"m.room.power_levels".into(), "").unwrap();
        world.join("bob:b.org");
        world.join("carol:c.org");
        world.send("alice", "m.room.power_levels", Some(""), power(version, 100)).unwrap();
        let mut levels = power(version, 100);
        levels["users"]["@carol:c.org"] = json!(50);
        let new = world.send("bob:b.org", "m.room.power_levels", Some(""), levels).unwrap();
        // Both branches know of all of it, by what this stands on.
        world.join("dan:c.org");
        let found = with_outdated(&world, &old).map(|pdu| pdu.event_id().to_owned());
        let expected = if stays { new.event_id() } else { old.event_id() };
        assert_eq!(found.as_deref(), Some(expected), "version {version}");
    }
}
