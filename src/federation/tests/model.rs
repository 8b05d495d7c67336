//! Users of several servers do random things while the wire cuts, delays, doubles and loses; in the end
//! every server has the same events and the same state.

use std::{collections::BTreeSet, sync::Arc};

use ruma::OwnedRoomId;
use serde_json::json;

use super::{Node, Wire, user};
use crate::{
    history::Status,
    types::{Rng, SeededRng},
};

const NAMES: [&str; 3] = ["a", "b", "c"];
const USERS: [&str; 6] = ["alice@a", "adam@a", "bob@b", "ben@b", "carol@c", "chris@c"];

struct Dice(SeededRng);

impl Dice {
    fn below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).unwrap()
    }

    fn pick<'a>(&self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn home(who: &str) -> &str {
    who.split_once('@').unwrap().1
}

async fn act(wire: &Arc<Wire>, room: &OwnedRoomId, dice: &Dice, step: usize) {
    let who = dice.pick(&USERS);
    let (node, whom) = (wire.node(home(who)), dice.pick(&USERS));
    wire.clock.advance(std::time::Duration::from_millis(1 + dice.below(50) as u64));
    // What the rules forbid is no concern of this test.
    match dice.below(12) {
        0..=3 => drop(node.say(who, room, &format!("{step}")).await),
        4 => drop(node.set(who, room, ("m.room.topic", ""), json!({"topic": format!("{step}")})).await),
        5 => drop(node.set(who, room, ("m.room.name", ""), json!({"name": format!("{step}")})).await),
        6 => {
            let power = json!({
                "users": {"@alice:a.org": 100, "@bob:b.org": 50 + dice.below(2) * 50, "@carol:c.org": dice.below(3) * 50},
                "events_default": 0, "state_default": 50, "ban": 50, "kick": 50, "redact": 50, "invite": 0,
            });
            drop(node.set(who, room, ("m.room.power_levels", ""), power).await);
        }
        7 => drop(node.rooms().kick(&user(who), room, &user(whom), None).await),
        8 => drop(node.rooms().ban(&user(who), room, &user(whom), None).await),
        9 => drop(node.rooms().unban(&user(who), room, &user(whom), None).await),
        10 => {
            let timeline = node.timeline(room).await;
            if let Some(target) = timeline.get(dice.below(timeline.len().max(1))) {
                drop(node.rooms().redact(&user(who), room, target, (None, None)).await);
            }
        }
        _ => join(wire, room, who).await,
    }
}

async fn join(wire: &Arc<Wire>, room: &OwnedRoomId, who: &str) {
    let node = wire.node(home(who));
    // Alice never leaves, so that her server is always in the room.
    let cut = |from: &str, to: &str| wire.cut.lock().contains(&(super::server(from), super::server(to)));
    if home(who) == "a" {
        drop(node.rooms().join(&user(who), room, None, serde_json::Map::new()).await);
    } else if !cut(home(who), "a") {
        drop(node.join_through(&wire.node("a"), room, who).await);
    }
}

async fn run(seed: u64, version: &str) {
    let dice = Dice(SeededRng::new(seed));
    let wire = Wire::new(&NAMES).await;
    let a = wire.node("a");
    let room = a.create("alice@a", version).await;
    if version != "12" {
        let power = json!({"users": {"@alice:a.org": 100, "@bob:b.org": 50}, "invite": 0});
        a.set("alice@a", &room, ("m.room.power_levels", ""), power).await.unwrap();
    }
    for who in ["bob@b", "carol@c"] {
        wire.node(home(who)).join_through(&a, &room, who).await.unwrap();
    }
    for step in 0..60 {
        match dice.below(10) {
            0 => wire.cut(dice.pick(&NAMES), dice.pick(&NAMES)),
            1 => wire.mend(),
            2..=5 => {
                let (from, to) = (dice.pick(&NAMES), dice.pick(&NAMES));
                if from != to {
                    wire.deliver(from, to, dice.below(4) == 0).await;
                }
            }
            _ => act(&wire, &room, &dice, step).await,
        }
    }
    heal(&wire, &room, seed).await;
    check(&wire, &room, (seed, version)).await;
}

/// Everybody who is left comes back and says something, so that everybody hears of everything.
async fn heal(wire: &Arc<Wire>, room: &OwnedRoomId, seed: u64) {
    wire.mend();
    wire.drive().await;
    let a = wire.node("a");
    for who in ["bob@b", "carol@c"] {
        let users: Vec<&str> = USERS.into_iter().filter(|user| home(user) == home(who)).collect();
        for user_name in users {
            drop(a.rooms().unban(&user("alice@a"), room, &user(user_name), None).await);
        }
        wire.drive().await;
        let node = wire.node(home(who));
        node.join_through(&a, room, who).await.unwrap_or_else(|error| panic!("seed {seed}: {who}: {error}"));
        wire.drive().await;
    }
    for _ in 0..2 {
        for who in ["alice@a", "bob@b", "carol@c"] {
            wire.clock.advance(std::time::Duration::from_secs(1));
            let said = wire.node(home(who)).say(who, room, "still here").await;
            said.unwrap_or_else(|error| panic!("seed {seed}: {who}: {error}"));
            wire.drive().await;
        }
    }
}

async fn check(wire: &Arc<Wire>, room: &OwnedRoomId, seed: (u64, &str)) {
    let a = wire.node("a");
    let state = a.state(room).await;
    for name in NAMES {
        let node = wire.node(name);
        assert_eq!(node.state(room).await, state, "seed {seed:?}: the state at {name}");
        let row = node.history().room(room).await.unwrap().unwrap();
        assert_eq!(row.heads.len(), 1, "seed {seed:?}: the heads at {name}");
        counts(&node, room, seed).await;
        let timeline = node.timeline(room).await;
        let unique: BTreeSet<_> = timeline.iter().collect();
        assert_eq!(unique.len(), timeline.len(), "seed {seed:?}: an event twice at {name}");
        // Whatever one shows, the others know; what they think of it may differ where bans are late.
        for other in NAMES.map(|name| wire.node(name)) {
            let members = node.history().current_members(room).await.unwrap();
            assert!(members.joined_count() > 0);
            for id in &timeline {
                let ours = node.history().event(id).await.unwrap().unwrap();
                if let Some(theirs) = other.history().event(id).await.unwrap() {
                    assert_ne!(theirs.status, Status::Rejected, "seed {seed:?}: {id} at {name}");
                    assert_eq!(theirs.pdu.event_id(), ours.pdu.event_id());
                }
            }
        }
    }
}

async fn counts(node: &Node, room: &OwnedRoomId, seed: (u64, &str)) {
    let row = node.history().room(room).await.unwrap().unwrap();
    let members = node.history().current_members(room).await.unwrap();
    assert_eq!(row.joined, members.joined_count() as u64, "seed {seed:?}");
    assert_eq!(row.invited, members.invited_count() as u64, "seed {seed:?}");
    for who in USERS {
        let joined = members.is_joined(&user(who));
        if home(who) == node.name.as_str().trim_end_matches(".org") {
            assert_eq!(
                node.history().is_joined(room, &user(who)).await.unwrap(),
                joined,
                "seed {seed:?}: {who}"
            );
        }
    }
    for name in NAMES.map(super::server) {
        if name != node.name {
            let inside = members.with(crate::types::Membership::Join).any(|user| user.server_name() == name);
            assert_eq!(
                node.history().has_server(room, &name).await.unwrap(),
                inside,
                "seed {seed:?}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn servers_converge() {
    for seed in 0..12 {
        for version in ["1", "2", "6", "11", "12"] {
            run(seed, version).await;
        }
    }
}
