//! What history makes of what rooms wrote.

use std::task::Poll;

use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{World, user, word};
use crate::{
    history::{
        Boundary,
        tables::{RELATIONS, THREADS},
    },
    log::Direction,
    types::{Fact, Position},
};

/// Whether bob sees what alice says before his invite, after it, after his joining, and after his
/// leaving; and whether eve, who was never there, sees any of it.
#[tokio::test]
async fn history_is_visible_by_its_setting() {
    for (setting, expected) in [
        ("world_readable", [true, true, true, true, true]),
        ("shared", [true, true, true, false, false]),
        ("invited", [false, true, true, false, false]),
        ("joined", [false, false, true, false, false]),
    ] {
        let world = World::new().await;
        let room = world.room("12").await;
        let content = json!({ "history_visibility": setting });
        world.set("alice", &room, "m.room.history_visibility", content).await.unwrap();
        let before = world.say("alice", &room, "before").await.unwrap();
        world.rooms.invite(&user("alice"), &room, &user("bob"), None).await.unwrap();
        let invited = world.say("alice", &room, "invited").await.unwrap();
        world.join("bob", &room).await.unwrap();
        let joined = world.say("alice", &room, "joined").await.unwrap();
        world.rooms.kick(&user("alice"), &room, &user("bob"), None).await.unwrap();
        let left = world.say("alice", &room, "left").await.unwrap();
        for (event, expected) in [&before, &invited, &joined, &left].into_iter().zip(expected) {
            assert_eq!(world.seen("bob", event).await != Value::Null, expected, "{setting}: {event}");
            assert_eq!(
                world.seen("eve", event).await != Value::Null,
                expected && setting == "world_readable"
            );
            assert_ne!(world.seen("alice", event).await, Value::Null);
        }
        let state = world.history().current_state(&room).await.unwrap().unwrap();
        let kick = world.history().state_event(state, "m.room.member".into(), "@bob:a.org").await.unwrap();
        let kick = world.seen("bob", kick.unwrap().pdu.event_id()).await;
        assert_eq!(kick["unsigned"]["membership"], "leave", "the kicked one sees the kick");
        assert_eq!(kick["unsigned"]["prev_content"]["membership"], "join");
        if expected[1] {
            let wanted = if setting == "shared" || setting == "world_readable" { "leave" } else { "invite" };
            let found = world.seen("bob", if wanted == "leave" { &before } else { &invited }).await;
            assert_eq!(found["unsigned"]["membership"], wanted);
        }
    }
}

#[tokio::test]
async fn an_event_as_a_client_gets_it() {
    let world = World::new().await;
    let room = world.room("11").await;
    world.join("bob", &room).await.unwrap();
    let said = world.say_once("alice", &room, "t\"1\\").await.unwrap();
    let expected = json!({
        "content": {"body": "t\"1\\"}, "event_id": said, "origin_server_ts": 1_000_000, "room_id": room,
        "sender": "@alice:a.org", "type": "m.room.message",
        "unsigned": {"age": 0, "membership": "join", "transaction_id": "t\"1\\"},
    });
    assert_eq!(world.seen("alice", &said).await, expected);
    let others = world.seen("bob", &said).await;
    assert_eq!(others["unsigned"], json!({"age": 0, "membership": "join"}));
    let one = world.set("alice", &room, "m.room.name", json!({"name": "A"})).await.unwrap();
    let two = world.set("alice", &room, "m.room.name", json!({"name": "B"})).await.unwrap();
    let seen = world.seen("bob", &two).await;
    assert_eq!(seen["state_key"], "");
    assert_eq!(seen["unsigned"]["replaces_state"], one.as_str());
    assert_eq!(seen["unsigned"]["prev_content"], json!({"name": "A"}));
    assert_eq!(world.seen("bob", &one).await["unsigned"].get("prev_content"), None);
}

/// <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>
#[tokio::test]
async fn what_a_state_event_replaced_is_told_to_those_who_may_see_it() {
    let before = json!({ "name": "A" });
    for (setting, expected) in
        [("world_readable", true), ("shared", true), ("invited", false), ("joined", false)]
    {
        let world = World::new().await;
        let room = world.room("12").await;
        let content = json!({ "history_visibility": setting });
        world.set("alice", &room, "m.room.history_visibility", content).await.unwrap();
        let one = world.set("alice", &room, "m.room.name", before.clone()).await.unwrap();
        world.join("bob", &room).await.unwrap();
        let two = world.set("alice", &room, "m.room.name", json!({ "name": "B" })).await.unwrap();
        for (name, is_told) in [("alice", true), ("bob", expected)] {
            let unsigned = &world.seen(name, &two).await["unsigned"];
            assert_eq!(unsigned["replaces_state"], one.as_str(), "{setting} {name}");
            assert_eq!(unsigned.get("prev_content"), is_told.then_some(&before), "{setting} {name}");
            assert_eq!(unsigned.get("prev_sender").is_some(), is_told, "{setting} {name}");
        }
    }
}

#[tokio::test]
async fn states_are_known_at_every_position() {
    let world = World::new().await;
    let room = world.room("12").await;
    let mut expected = Vec::new();
    for name in ["A", "B", "C"] {
        let id = world.set("alice", &room, "m.room.name", json!({ "name": name })).await.unwrap();
        let event = world.history().event(&id).await.unwrap().unwrap();
        expected.push((event.position, id));
        world.say("alice", &room, name).await.unwrap();
    }
    for history in [world.history().clone(), world.cold().await] {
        for (position, id) in &expected {
            for (at, found) in [(position.0, true), (position.0 + 1, true), (position.0 - 1, false)] {
                let state = history.state_at_position(&room, Position(at)).await.unwrap();
                let name = history.state_entry(state, "m.room.name".into(), "").await.unwrap();
                assert_eq!(name.is_some_and(|value| value.event_id == *id), found);
            }
        }
        let state = history.current_state(&room).await.unwrap().unwrap();
        let all = history.state_of(state, None).await.unwrap();
        assert_eq!(all.len(), history.state_events(state, None).await.unwrap().len());
        assert_eq!(
            history.state_at_position(&room, Position::ZERO).await.unwrap(),
            crate::dag::StateId::EMPTY
        );
        assert_eq!(history.members(&room, state).await.unwrap().joined_count(), 1);
    }
}

#[tokio::test]
async fn relations_and_threads_are_indexed() {
    let world = World::new().await;
    let room = world.room("12").await;
    let root = world.say("alice", &room, "root").await.unwrap();
    let relate = |rel_type: &str, parent: &ruma::EventId, key: &str| json!({"body": "x", "m.relates_to": {"rel_type": rel_type, "event_id": parent, "key": key}});
    let reply = |n: &str| relate("m.thread", &root, n);
    let mut replies = Vec::new();
    for n in ["1", "2", "3"] {
        replies.push(world.send("alice", &room, "m.room.message", reply(n)).await.unwrap());
    }
    let threads = || async { world.db.range(&THREADS, &(room.clone(),), 10).await.unwrap() };
    let found = threads().await;
    assert_eq!((found.len(), found[0].1.count), (1, 3));
    assert_eq!(found[0].1.latest, replies[2]);
    for (index, latest, count) in [(1, 2, 2), (2, 0, 1)] {
        world.rooms.redact(&user("alice"), &room, &replies[index], (None, None)).await.unwrap();
        let found = threads().await;
        assert_eq!((found.len(), found[0].1.count, &found[0].1.latest), (1, count, &replies[latest]));
        let latest = world.history().event(&replies[latest]).await.unwrap().unwrap();
        assert_eq!(found[0].0.1, Boundary::at(latest.position));
    }
    world.rooms.redact(&user("alice"), &room, &replies[0], (None, None)).await.unwrap();
    assert!(threads().await.is_empty());
    let nested = relate("m.thread", &replies[0], "");
    assert_eq!(word(world.send("alice", &room, "m.room.message", nested).await), "ok", "redacted");

    let react =
        |key: &'static str| world.send("alice", &room, "m.reaction", relate("m.annotation", &root, key));
    assert_eq!(word(react("👍").await), "ok");
    let again = react("👍").await;
    assert_eq!(word(again), "duplicate");
    assert_eq!(word(react("👎").await), "ok");
    let rows = world.db.range(&RELATIONS, &(root.clone(), String::from("m.annotation")), 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].1.key.as_deref(), Some("👍"));
    let reaction = rows[0].1.event_id.clone();
    let on_reaction = relate("m.thread", &reaction, "");
    assert_eq!(word(world.send("alice", &room, "m.room.message", on_reaction).await), "invalid");
}

/// Whoever is not in a room has no part in its threads.
#[tokio::test]
async fn what_is_said_in_another_room_is_not_indexed() {
    let world = World::new().await;
    let (room, other) = (world.room("12").await, world.room("12").await);
    let root = world.say("alice", &room, "root").await.unwrap();
    let reply = json!({"body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    for (place, count) in [(&other, 0), (&room, 1), (&other, 1), (&room, 2)] {
        world.send("alice", place, "m.room.message", reply.clone()).await.unwrap();
        let rows = world.db.range(&RELATIONS, &(root.clone(),), 10).await.unwrap();
        assert_eq!(rows.len(), count);
        let threads = world.db.range(&THREADS, &(), 10).await.unwrap();
        let counts: Vec<u64> = threads.into_iter().map(|(_, row)| row.count).collect();
        assert_eq!(counts, (count > 0).then_some(count as u64).into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_graph_has_every_event() {
    let world = World::new().await;
    let room = world.room("12").await;
    let said = world.say("alice", &room, "x").await.unwrap();
    let vertices = world.history().graph(&room, 100).await.unwrap().unwrap();
    let head: Vec<_> = vertices.iter().filter(|vertex| vertex.is_head).collect();
    assert_eq!((head.len(), head[0].event_id.as_str()), (1, said.as_str()));
    assert_eq!(vertices.iter().filter(|vertex| vertex.prev_events.is_empty()).count(), 1);
    assert_eq!(world.history().graph(&room, 2).await.unwrap().unwrap().len(), 2);
    assert!(world.history().graph("!no:a.org".try_into().unwrap(), 2).await.unwrap().is_none());
}

/// Senders that come all at once: one chain, in the order of the positions, nothing lost.
#[tokio::test]
async fn many_senders_make_one_chain() {
    let world = World::new().await;
    let room = world.room("12").await;
    for name in ["bob", "carol", "dan"] {
        world.join(name, &room).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200_u32 {
        let (rooms, room) = (world.rooms.clone(), room.clone());
        tasks.spawn(async move {
            let name = ["alice", "bob", "carol", "dan"][n as usize % 4];
            let content = serde_json::value::to_raw_value(&json!({ "n": n })).unwrap();
            match n % 10 {
                0 => rooms.set_state(&user("alice"), &room, (&"x".into(), ""), content).await,
                _ => {
                    let txn = Some(super::Txn { device: "D".into(), id: (n % 150).to_string() });
                    let message = super::Message { event_type: "m".into(), content, txn };
                    rooms.send(&user(name), &room, message).await
                }
            }
            .unwrap()
        });
    }
    let mut ids: Vec<_> = Vec::new();
    while let Some(id) = tasks.join_next().await {
        ids.push(id.unwrap());
    }
    let facts =
        world.history().log().timeline(&room, (Position::ZERO, Position::MAX), Direction::Forward, 1000);
    let facts = facts.await.unwrap();
    let mut previous: Option<ruma::OwnedEventId> = None;
    let mut state = crate::dag::StateId::EMPTY;
    for history in [world.history().clone(), world.cold().await] {
        previous = None;
        state = crate::dag::StateId::EMPTY;
        for (position, fact) in &facts {
            let Fact::Event { event_id } = fact else { panic!("{fact:?}") };
            let event = history.event(event_id).await.unwrap().unwrap();
            assert_eq!(event.position, *position);
            assert_eq!(event.pdu.prev_events().first(), previous.as_ref());
            let states = event.states.unwrap();
            assert_eq!((states.before, states.current), (state, states.after));
            state = states.after;
            previous = Some(event_id.clone());
        }
    }
    let row = world.history().room(&room).await.unwrap().unwrap();
    assert_eq!((Some(&row.heads[0].id), row.heads.len(), row.state), (previous.as_ref(), 1, state));
    let known: std::collections::HashSet<_> = facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Event { event_id } => Some(event_id.clone()),
            _ => None,
        })
        .collect();
    assert!(ids.iter().all(|id| known.contains(id)));
    assert!(world.rooms.0.slots.is_empty());
}

#[tokio::test]
async fn an_event_is_found_by_its_time() {
    let world = World::new().await;
    let room = world.room("12").await;
    let other = world.room("11").await;
    let start = world.ports.clock.now_ms();
    let mut said = Vec::new();
    for n in 0..300 {
        world.clock.advance(std::time::Duration::from_secs(1));
        // Positions are shared by all rooms.
        world.say("alice", &other, "x").await.unwrap();
        said.push(world.say("alice", &room, &n.to_string()).await.unwrap());
    }
    let head = world.history().log().head();
    let mut viewer = world.history().viewer(&user("alice"), None).await.unwrap();
    for (seconds, direction, expected) in [
        (1, Direction::Forward, Some(0)),
        (150, Direction::Forward, Some(149)),
        (150, Direction::Backward, Some(149)),
        (300, Direction::Forward, Some(299)),
        (301, Direction::Forward, None),
        (1_000, Direction::Backward, Some(299)),
    ] {
        let ts = MilliSecondsSinceUnixEpoch((u32::try_from(start).unwrap() + seconds * 1_000).into());
        let range = (Boundary::START, Boundary::after(head));
        let found = viewer.event_by_time(&room, range, (ts, direction)).await.unwrap();
        let found = found.map(|event| event.pdu.event_id().to_owned());
        assert_eq!(found, expected.map(|n: usize| said[n].clone()), "{seconds} {direction:?}");
    }
    let between = MilliSecondsSinceUnixEpoch((u32::try_from(start).unwrap() + 100_500).into());
    let range = (Boundary::START, Boundary::after(head));
    for (direction, expected) in [(Direction::Forward, 100), (Direction::Backward, 99)] {
        let found = viewer.event_by_time(&room, range, (between, direction)).await.unwrap();
        assert_eq!(found.unwrap().pdu.event_id(), &said[expected]);
    }
}

/// Lets others have a turn, and is in the queue already when they wake one another.
async fn at_once() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        match std::mem::replace(&mut has_waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// Whoever is told that something has happened finds it as it is after that, however it was read before.
#[tokio::test]
async fn what_has_happened_is_read_as_it_is_then() {
    let world = World::new().await;
    let room = world.room("11").await;
    let (alice, history) = (user("alice"), world.history());
    for _ in 0..20 {
        let said = world.send("alice", &room, "m.room.message", json!({ "body": "x" })).await.unwrap();
        let before = history.log().head();
        assert!(history.event(&said).await.unwrap().unwrap().notes.redacted_by.is_none());
        let (reader, target) = (history.clone(), said.clone());
        let reads = TaskTracker::new().spawn(async move {
            while reader.log().head() == before {
                at_once().await;
            }
            reader.event(&target).await.unwrap().unwrap().notes.redacted_by.is_some()
        });
        world.rooms.redact(&alice, &room, &said, (None, None)).await.unwrap();
        let is_seen = reads.await.unwrap();
        assert!(is_seen, "an older form was kept");
    }
}
