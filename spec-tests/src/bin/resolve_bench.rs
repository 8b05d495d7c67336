//! What state resolution costs, on rooms that are the same each time: by the number of forward extremities
//! and by the length of the auth chains.
//!
//! `cargo run --release -p spec-tests --bin resolve_bench -- [VERSION] [--whole]`
//!
//! The room has an administrator, new power levels every thousand events, and otherwise users who join,
//! leave and join again, each on top of what they did last: the whole of it is one auth chain. From its end
//! it forks. On each branch one more user joins, the topic is changed, and every tenth branch bans somebody.
//! Printed are time and allocations of one resolution of all branches, and how they grow from line to line;
//! the walk over whole auth chains, which the index of auth chains replaces, beside it with `--whole`.

use std::{
    alloc::System,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use lockstep::dag::{
    Node, NodeId, Pdu, StateId, StateKey, StateValue,
    resolve::{AtHand, Merge, merge},
    tree, versions,
};
use ruma::{OwnedEventId, RoomVersionId, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};
use spec_tests::Outcome;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EXTREMITIES: [usize; 4] = [1, 10, 100, 1_000];
const CHAINS: [usize; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 5;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut version = RoomVersionId::V12;
    let mut whole = false;
    for argument in arguments.by_ref() {
        match argument.as_str() {
            "--whole" => whole = true,
            text => version = RoomVersionId::try_from(text)?,
        }
    }
    println!("room version {version}, best of {ROUNDS} rounds");
    let longest = CHAINS[CHAINS.len() - 1];
    table("extremities", EXTREMITIES.map(|heads| (heads, longest, heads)), &version, whole)?;
    table("auth chain", CHAINS.map(|chain| (10, chain, chain)), &version, whole)
}

/// Heads, length of the chain, and which of them the line is about.
type Case = (usize, usize, usize);

fn table<const N: usize>(title: &str, cases: [Case; N], version: &RoomVersionId, whole: bool) -> Outcome<()> {
    println!();
    println!(
        "{title:>12} {:>12} {:>12} {:>12} {:>9} {:>9}",
        "time", "allocations", "bytes", "time ×", "bytes ×"
    );
    let mut before: Option<(f64, f64)> = None;
    for (heads, chain, shown) in cases {
        let forks = Forks::new(version, chain, heads)?;
        let taken = forks.measure(|forks| forks.by_index());
        let now = (taken.time.as_secs_f64(), taken.bytes as f64);
        let growth = before.map_or((1.0, 1.0), |before| (now.0 / before.0, now.1 / before.1));
        println!(
            "{shown:>12} {:>12} {:>12} {:>12} {:>9.2} {:>9.2}",
            format!("{:.3?}", taken.time),
            taken.allocations,
            taken.bytes,
            growth.0,
            growth.1
        );
        if whole {
            let taken = forks.measure(|forks| forks.by_whole_chains());
            println!(
                "{:>12} {:>12} {:>12} {:>12}",
                "whole chains",
                format!("{:.3?}", taken.time),
                taken.allocations,
                taken.bytes
            );
            assert_eq!(forks.by_index(), forks.by_whole_chains(), "the two ways must come to the same state");
        }
        before = Some(now);
    }
    Ok(())
}

struct Taken {
    time: Duration,
    allocations: usize,
    bytes: usize,
}

/// The branches of a room.
struct Forks {
    rules: &'static RoomVersionRules,
    states: Vec<StateId>,
    nodes: HashMap<NodeId, Arc<Node>>,
    at_hand: AtHand,
}

impl Forks {
    fn new(version: &RoomVersionId, chain: usize, heads: usize) -> Outcome<Self> {
        let rules = versions::rules(version).ok_or("no such room version")?;
        let mut room = Room::found(version, rules)?;
        let mut number = 0;
        while room.events.len() < chain {
            number += 1;
            let user = format!("@user{}:b.org", number % 500);
            let membership = if room.is_joined(&user) { "leave" } else { "join" };
            room.member(&user, &user, membership)?;
            if number % 1_000 == 0 {
                room.power_levels(number)?;
            }
        }
        room.settle()?;
        let mut states = Vec::new();
        let (state, places) = (room.state, room.places.clone());
        for head in 0..heads {
            room.state = state;
            room.places.clone_from(&places);
            let user = format!("@new{head}:c.org");
            room.member(&user, &user, "join")?;
            room.send(ADMIN, ("m.room.topic", ""), json!({ "topic": head.to_string() }), &[ADMIN_PLACE])?;
            if head % 10 == 9 {
                let target = format!("@user{}:b.org", head % 500);
                room.member(ADMIN, &target, "ban")?;
            }
            room.settle()?;
            states.push(room.state);
        }
        Ok(Self { rules, states, nodes: room.nodes, at_hand: AtHand::whole(room.events) })
    }

    fn by_index(&self) -> Option<StateId> {
        Merge::new(self.rules, &self.states)
            .advance(&self.nodes, &self.at_hand)
            .ok()
            .map(|applied| applied.state)
    }

    fn by_whole_chains(&self) -> Option<StateId> {
        merge(self.rules, &self.states, &self.nodes, &self.at_hand.events).ok().map(|applied| applied.state)
    }

    fn measure(&self, way: impl Fn(&Self) -> Option<StateId>) -> Taken {
        let mut best = Taken { time: Duration::MAX, allocations: 0, bytes: 0 };
        for _ in 0..ROUNDS {
            let region = Region::new(ALLOCATOR);
            let begin = Instant::now();
            let state = way(self);
            let time = begin.elapsed();
            let change = region.change();
            assert!(state.is_some(), "everything is at hand");
            if time < best.time {
                best = Taken { time, allocations: change.allocations, bytes: change.bytes_allocated };
            }
        }
        best
    }
}

/// Event type and state key.
type Place<'a> = (&'a str, &'a str);

const ADMIN: &str = "@admin:a.org";
const ADMIN_PLACE: Place<'static> = ("m.room.member", ADMIN);
const CREATE: Place<'static> = ("m.room.create", "");
const POWER_LEVELS: Place<'static> = ("m.room.power_levels", "");
const JOIN_RULES: Place<'static> = ("m.room.join_rules", "");

/// A room that grows. Its events are well formed and allowed; nobody has signed them.
struct Room {
    rules: &'static RoomVersionRules,
    room_id: String,
    events: HashMap<OwnedEventId, Pdu>,
    places: HashMap<(String, String), Pdu>,
    state: StateId,
    /// What is not in the state yet.
    changes: BTreeMap<StateKey, StateValue>,
    nodes: HashMap<NodeId, Arc<Node>>,
}

impl Room {
    fn found(version: &RoomVersionId, rules: &'static RoomVersionRules) -> Outcome<Self> {
        let mut room = Self {
            rules,
            room_id: String::from("!room:a.org"),
            events: HashMap::new(),
            places: HashMap::new(),
            state: StateId::EMPTY,
            changes: BTreeMap::new(),
            nodes: HashMap::new(),
        };
        let create = json!({ "room_version": version, "creator": ADMIN });
        room.send(ADMIN, CREATE, create, &[])?;
        room.member(ADMIN, ADMIN, "join")?;
        room.power_levels(0)?;
        room.send(ADMIN, JOIN_RULES, json!({ "join_rule": "public" }), &[ADMIN_PLACE])?;
        Ok(room)
    }

    fn settle(&mut self) -> Outcome<()> {
        let changes = std::mem::take(&mut self.changes).into_iter().map(|(key, value)| (key, Some(value)));
        let applied = tree::apply(&self.nodes, self.state, changes)?;
        self.nodes.extend(applied.nodes.into_iter().map(|node| (node.id, node.node)));
        self.state = applied.state;
        Ok(())
    }

    fn is_joined(&self, user: &str) -> bool {
        let place = (String::from("m.room.member"), String::from(user));
        self.places.get(&place).is_some_and(|pdu| pdu.content().get().contains("join"))
    }

    fn member(&mut self, sender: &str, target: &str, membership: &str) -> Outcome<()> {
        let content = json!({ "membership": membership });
        let named = [("m.room.member", sender), ("m.room.member", target), JOIN_RULES];
        // Who leaves or is banned names no join rules.
        let named = if membership == "join" { &named[..] } else { &named[..2] };
        self.send(sender, ("m.room.member", target), content, named)
    }

    fn power_levels(&mut self, number: usize) -> Outcome<()> {
        let users = match self.rules.authorization.explicitly_privilege_room_creators {
            true => json!({ "@moderator:a.org": 50 }),
            false => json!({ ADMIN: 100, "@moderator:a.org": 50 }),
        };
        let content = json!({ "users": users, "note": number });
        self.send(ADMIN, POWER_LEVELS, content, &[ADMIN_PLACE])
    }

    fn send(
        &mut self,
        sender: &str,
        (event_type, state_key): Place<'_>,
        content: Value,
        named: &[Place<'_>],
    ) -> Outcome<()> {
        let mut auth_events: Vec<&str> = Vec::new();
        let names_create = !self.rules.authorization.room_create_event_id_as_room_id;
        let implied = [CREATE, POWER_LEVELS].into_iter().filter(|place| *place != CREATE || names_create);
        for (kind, key) in implied.chain(named.iter().copied()) {
            let found = self.places.get(&(String::from(kind), String::from(key)));
            if let Some(id) = found.map(|pdu| pdu.event_id().as_str()).filter(|id| !auth_events.contains(id))
            {
                auth_events.push(id);
            }
        }
        let now = self.events.len() + 1;
        let mut event = json!({
            "auth_events": auth_events, "content": content, "depth": now, "hashes": { "sha256": "" },
            "origin_server_ts": now, "prev_events": [], "room_id": self.room_id, "sender": sender,
            "signatures": {}, "state_key": state_key, "type": event_type,
        });
        if event_type == CREATE.0 && !names_create {
            event.as_object_mut().ok_or("not an object")?.remove("room_id");
        }
        let pdu = Pdu::parse(&event.to_string(), self.rules)?;
        if event_type == CREATE.0 {
            self.room_id = pdu.room_id().to_string();
        }
        let (key, value) = tree::entry_of(&pdu).ok_or("not a state event")?;
        self.changes.insert(key, value);
        self.places.insert((String::from(event_type), String::from(state_key)), pdu.clone());
        self.events.insert(pdu.event_id().to_owned(), pdu);
        Ok(())
    }
}
