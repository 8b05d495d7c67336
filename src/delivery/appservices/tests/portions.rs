//! Transactions that are not too large, and what is refused.

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedRoomId, server_name};
use serde_json::{Value, json};

use super::{Mood, World, user};
use crate::{
    appservice::Registration,
    limits::{APPSERVICE_BYTES_MAX, APPSERVICE_EDUS_MAX},
    log::Commit,
    types::{Fact, Lane, ReceiptKind},
};

impl World {
    /// A world in which irc_bob is in a room.
    async fn with_room() -> (Self, OwnedRoomId) {
        let world = Self::new().await;
        let room = world.room().await;
        world.join("irc_bob", &room).await;
        world.bridge.until("joined", || !world.bridge.came.lock().is_empty()).await;
        (world, room)
    }

    /// Has so many messages said while the bridge is not there.
    async fn backlog(&self, room: &OwnedRoomId, count: usize, filling: usize) {
        let before = std::mem::replace(&mut *self.bridge.mood.lock(), Mood::Fails);
        for number in 0..count {
            self.say("alice", room, &format!("{number} {}", "x".repeat(filling))).await;
        }
        // The first of them is on its way by itself.
        tokio::time::sleep(Duration::from_secs(1)).await;
        *self.bridge.mood.lock() = before;
    }

    fn numbers(&self) -> Vec<usize> {
        let number = |body: &String| body.split(' ').next().unwrap().parse().unwrap();
        self.bodies().iter().map(number).collect()
    }

    fn messages(&self) -> Vec<u64> {
        let taken = self.bridge.taken();
        let all = taken.iter().filter_map(|body| body["de.sorunome.msc2409.to_device"].as_array());
        all.flatten().map(|message| message["content"]["number"].as_u64().unwrap()).collect()
    }
}

fn to_device(number: usize, filling: usize) -> Fact {
    let content = json!({ "number": number, "filling": "x".repeat(filling) }).to_string();
    Fact::ToDevice { sender: user("alice"), event_type: "m.x".into(), content }
}

fn device(number: usize) -> OwnedDeviceId {
    format!("D{number:03}").into()
}

fn is_13(event: &Value) -> bool {
    event["content"]["body"].as_str().is_some_and(|body| body.starts_with("13 "))
}

#[tokio::test(start_paused = true)]
async fn a_transaction_holds_only_so_many_ephemeral_events() {
    let (world, room) = World::with_room().await;
    let event_id = world.say("alice", &room, "0").await;
    let mut commit = Commit::new();
    for number in 0..250 {
        let receipt = Fact::Receipt {
            kind: ReceiptKind::ReadPrivate,
            user_id: user("irc_bob"),
            room_id: room.clone(),
            thread_id: Some(format!("${number}")),
            event_id: event_id.clone(),
            ts: number,
        };
        commit.fact(Lane::Account(user("irc_bob")), receipt);
    }
    world.log.commit(commit).await.unwrap();
    let read = || -> Vec<u64> {
        let taken = world.bridge.taken();
        let all = taken.iter().filter_map(|body| body["ephemeral"].as_array());
        let data =
            |edu: &Value| edu["content"][event_id.as_str()]["m.read.private"]["@irc_bob:a.org"].clone();
        all.flatten().filter_map(|edu| data(edu)["ts"].as_u64()).collect()
    };
    world.bridge.until("all receipts", || read().len() >= 250).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(read(), (0..250).collect::<Vec<_>>());
    let count = |body: &Value| body["ephemeral"].as_array().map_or(0, Vec::len);
    assert!(world.bridge.taken().iter().all(|body| count(body) <= APPSERVICE_EDUS_MAX));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_holds_only_so_many_bytes() {
    let (world, room) = World::with_room().await;
    let inbox = Lane::Inbox(user("irc_bob"), device(0));
    let mut commit = Commit::new();
    (0..20).for_each(|number| commit.fact(inbox.clone(), to_device(number, 50_000)));
    world.log.commit(commit).await.unwrap();
    world.backlog(&room, 20, 50_000).await;
    world.bridge.until("all of it", || world.numbers().len() >= 20 && world.messages().len() >= 20).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.numbers(), (0..20).collect::<Vec<_>>());
    assert_eq!(world.messages(), (0..20).collect::<Vec<_>>());
    let largest = world.bridge.taken().iter().map(|body| body.to_string().len()).max().unwrap();
    assert!((APPSERVICE_BYTES_MAX / 4..=APPSERVICE_BYTES_MAX).contains(&largest), "{largest}");
    world.log.close();
}

/// Everything else arrives, once and in order; what comes later does too.
#[tokio::test(start_paused = true)]
async fn an_item_that_is_refused_holds_nothing_else_up() {
    let (world, room) = World::with_room().await;
    *world.bridge.refuses.lock() = |body| {
        let messages = body["de.sorunome.msc2409.to_device"].as_array();
        let mut messages = messages.into_iter().flatten();
        body["events"].as_array().unwrap().iter().any(is_13)
            || messages.any(|message| message["content"]["number"] == 7)
    };
    let mut commit = Commit::new();
    (0..20).for_each(|number| commit.fact(Lane::Inbox(user("irc_bob"), device(0)), to_device(number, 1)));
    world.log.commit(commit).await.unwrap();
    world.backlog(&room, 30, 1).await;
    let expected: Vec<usize> = (0..30).filter(|number| *number != 13).collect();
    world.bridge.until("had the others", || world.numbers().len() == expected.len()).await;
    world.bridge.until("had the messages", || world.messages().len() == 19).await;
    world.say("alice", &room, "30 later").await;
    world.bridge.until("had what came later", || world.numbers().last() == Some(&30)).await;
    assert_eq!(world.numbers(), [expected, vec![30]].concat());
    assert_eq!(world.messages(), (0..20).filter(|number| *number != 7).collect::<Vec<_>>());
    let refused = *world.bridge.refused.lock();
    assert!(refused < 40, "{refused} transactions were refused");
    let appservice = world.appservices.by_token("as").unwrap();
    assert_eq!(world.couriers.standing(&appservice).await.unwrap().unwrap().trouble, None);
    world.log.close();
}

/// A proxy that lets only so much through gets everything in pieces, over restarts too.
#[tokio::test(start_paused = true)]
async fn one_that_takes_little_at_a_time_gets_everything() {
    let (world, room) = World::with_room().await;
    *world.bridge.refuses.lock() = |body| body.to_string().len() > 20_000;
    world.backlog(&room, 100, 5_000).await;
    world.bridge.until("had some", || world.numbers().len() >= 20).await;
    let world = world.crash().await;
    world.bridge.until("had everything", || world.numbers().len() >= 100).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.numbers(), (0..100).collect::<Vec<_>>());
    world.log.close();
}

/// Nothing is lost on one whose proxy refuses whatever comes.
#[tokio::test(start_paused = true)]
async fn one_that_refuses_everything_gets_it_later() {
    let (world, room) = World::with_room().await;
    *world.bridge.refuses.lock() = |_| true;
    world.backlog(&room, 30, 1).await;
    let appservice = world.appservices.by_token("as").unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let trouble = world.couriers.standing(&appservice).await.unwrap().unwrap().trouble.unwrap();
    assert!(trouble.failures > 5 && trouble.last_error == "too large", "{trouble:?}");
    *world.bridge.refuses.lock() = |_| false;
    world.bridge.until("had everything", || world.numbers().len() >= 30).await;
    assert_eq!(world.numbers(), (0..30).collect::<Vec<_>>());
    world.log.close();
}

/// One request may put more into inboxes than a transaction carries, all of it at one position.
#[tokio::test(start_paused = true)]
async fn messages_of_one_request_to_many_devices_all_come() {
    let text =
        "{ id: late, url: 'http://localhost:1', as_token: late, hs_token: late, sender_localpart: late_bot,
        receive_ephemeral: true, org.matrix.msc3202: true,
        namespaces: { users: [{ exclusive: false, regex: '@.*' }] } }";
    // What is sent to irc_bob is the bridge's own; what is sent to alice she reads too.
    for of in ["alice", "irc_bob"] {
        let world = World::new().await;
        let register = async || {
            let registration = Registration::parse(text).unwrap();
            let (couriers, all) = (&world.couriers, &world.appservices);
            let late = couriers.register(all, registration, server_name!("a.org")).await.unwrap();
            while couriers.standing(&late).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        if of == "alice" {
            register().await;
        }
        *world.bridge.mood.lock() = Mood::Fails;
        let mut commit = Commit::new();
        let inbox = |number| Lane::Inbox(user(of), device(number));
        (0..250).for_each(|number| commit.fact(inbox(number), to_device(number, 1)));
        world.log.commit(commit).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        // Whoever serves it from now on knows nothing of what the one before had looked at.
        if of == "alice" {
            register().await;
        }
        *world.bridge.mood.lock() = Mood::Takes;
        let numbers = || -> Vec<u64> {
            let came = if of == "alice" { &world.bridge.came_late } else { &world.bridge.came }.lock();
            let all = came.iter().filter_map(|(_, body)| body["de.sorunome.msc2409.to_device"].as_array());
            all.flatten().map(|message| message["content"]["number"].as_u64().unwrap()).collect()
        };
        world.bridge.until("had all messages", || numbers().len() >= 250).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(numbers(), (0..250).collect::<Vec<_>>(), "{of}");
        let waiting = world.log.queued(&inbox(249), Default::default(), 10).await.unwrap().len();
        assert_eq!(waiting, usize::from(of == "alice"), "what others read too stays");
        world.log.close();
    }
}
