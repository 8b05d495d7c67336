//! What those who wait for a busy room cost others.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use tokio::task::JoinSet;

use super::*;
use crate::{limits::COMMIT_GROUP_MAX, room::turn::Turn};

const WAITING: usize = 4_000;

#[tokio::test]
async fn who_goes_away_while_waiting_leaves_nothing() {
    let world = World::new().await;
    let room = world.room("12").await;
    let turn = Turn::begin(&world.rooms, &room).await.unwrap();
    let mut waiting = Box::pin(world.rooms.0.slots.lock(&room));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("two have the room"),
        () = tokio::task::yield_now() => {}
    }
    drop(turn);
    drop(waiting);
    assert!(world.rooms.0.slots.is_empty());
}

/// The same reaction again, while the first is being written, gets the answer of the first.
#[tokio::test]
async fn a_reaction_that_is_sent_again_at_once_is_no_double() {
    let world = World::new().await;
    let room = world.room("12").await;
    let said = world.say("alice", &room, "x").await.unwrap();
    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": said, "key": "k" } });
    let react = || {
        let txn = Some(Txn { device: "D".into(), id: "t".into() });
        let content = to_raw_value(&content).unwrap();
        let message = Message { event_type: "m.reaction".into(), content, txn };
        let (rooms, room) = (world.rooms.clone(), room.clone());
        async move { rooms.send(&user("alice"), &room, message).await }
    };
    let turn = Turn::begin(&world.rooms, &room).await.unwrap();
    let first = world.rooms.0.tasks.spawn(react());
    tokio::task::yield_now().await;
    // Between the two somebody else has the room, until the first is written.
    let (rooms, there) = (world.rooms.clone(), room.clone());
    let held = world.rooms.0.tasks.spawn(async move { rooms.0.slots.lock(&there).await });
    tokio::task::yield_now().await;
    let second = world.rooms.0.tasks.spawn(react());
    tokio::task::yield_now().await;
    drop(turn);
    let first = first.await.unwrap().unwrap();
    drop(held.await.unwrap());
    assert_eq!(second.await.unwrap().unwrap(), first);
}

/// A task that counts how often anything of its kind is looked at.
struct Counted<F> {
    inner: Pin<Box<F>>,
    looks: Arc<AtomicUsize>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.as_mut().poll(context)
    }
}

impl World {
    /// On a task of its own, which takes its turn among the others.
    async fn says(&self, room: &RoomId, n: usize) {
        self.rooms.0.tasks.spawn(say(self.rooms.clone(), room.to_owned(), n)).await.unwrap();
    }
}

async fn say(rooms: Rooms, room: OwnedRoomId, n: usize) {
    let content = to_raw_value(&json!({ "n": n })).unwrap();
    let message = Message { event_type: "m".into(), content, txn: None };
    rooms.send(&user("alice"), &room, message).await.unwrap();
}

/// Row 5.4: thousands of requests that want the same lock. All runs on one thread, so that how often they are looked at
/// is how long everybody else waits.
#[tokio::test]
async fn row_5_4_cve_2026_45078_who_waits_for_a_busy_room_keeps_nobody_else_waiting() {
    let world = World::new().await;
    let (busy, quiet) = (world.room("12").await, world.room("12").await);
    let turn = Turn::begin(&world.rooms, &busy).await.unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let mut waiting = JoinSet::new();
    for n in 0..WAITING {
        let inner = Box::pin(say(world.rooms.clone(), busy.clone(), n));
        waiting.spawn(Counted { inner, looks: looks.clone() });
    }
    let looked = || looks.load(Ordering::Relaxed);
    for n in 0..10 {
        world.says(&quiet, n).await;
    }
    // Each has come as far as it can, and does not look again whether it can go on.
    let begun = looked();
    assert!((WAITING..=WAITING * 3).contains(&begun), "{begun} looks before anything can be done");
    for n in 0..100 {
        world.says(&quiet, n).await;
    }
    assert_eq!(looked(), begun, "somebody looks again and again");

    // Once they can go on, one after another, somebody else is served between any of them.
    drop(turn);
    let (rooms, counter) = (world.rooms.clone(), looks.clone());
    let waits = world.rooms.0.tasks.spawn(async move {
        let (mut waits, looked) = (Vec::new(), || counter.load(Ordering::Relaxed));
        while looked() < begun + WAITING {
            let before = looked();
            say(rooms.clone(), quiet.clone(), waits.len()).await;
            waits.push(looked() - before);
        }
        waits
    });
    let mut waits = waits.await.unwrap();
    while let Some(done) = waiting.join_next().await {
        done.unwrap();
    }
    waits.sort_unstable();
    let (longest, all) = (waits.last().copied().unwrap_or_default(), looked() - begun);
    // Nobody waits for more than what is written to the store in one go, however many there are.
    assert!(longest <= COMMIT_GROUP_MAX * 2, "{longest} looks at others during one request: {waits:?}");
    assert!(all <= WAITING * 5, "{all} looks for {WAITING} messages");
    assert!(world.rooms.0.slots.is_empty(), "nothing is left of the waiting");
}
