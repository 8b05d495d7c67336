//! Events by their time, of which other servers know.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{Server, sluggish::Sluggish, via};
use crate::{federation::Transaction, types::Clock};

const BEGIN: u64 = 1_700_000_000_000;

/// A room of alice's on a, where something is said every ten seconds.
struct Scene {
    net: Sluggish,
    a: Server,
    b: Server,
    alice: String,
    bob: String,
    room: OwnedRoomId,
}

impl Scene {
    async fn new() -> Self {
        let net = Sluggish::default();
        let (a, b) = (net.server("a.org").await, net.server("b.org").await);
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        Self { net, a, b, alice, bob, room }
    }

    /// Says something ten seconds after everything before.
    async fn say(&self, n: u64) -> OwnedEventId {
        for server in [&self.a, &self.b] {
            server.clock.advance(Duration::from_secs(10));
        }
        let said = format!("PUT /rooms/{}/send/m.room.message/{n}", self.room);
        let body = json!({ "msgtype": "m.text", "body": format!("{n}") });
        let answer = self.a.met(&self.alice, &said, body).await;
        answer["event_id"].as_str().unwrap().try_into().unwrap()
    }

    async fn join(&self) {
        let join = format!("POST /join/{}", via(&self.room, &[&self.a]));
        assert_eq!(self.b.met(&self.bob, &join, json!({})).await, json!({ "room_id": self.room }));
    }

    /// Hands an event of a to b.
    async fn deliver(&self, event: &OwnedEventId) {
        let pdu = self.a.app.history.event(event).await.unwrap().unwrap().pdu.json().to_owned();
        let id = event.as_str().trim_start_matches('$').to_owned();
        let transaction = Transaction { id, pdus: vec![pdu], edus: Vec::new() };
        let answer = self.b.app.federation.receive(&self.a.name, transaction).await.unwrap();
        assert_eq!(answer.get(event), Some(&Ok(())), "{answer:?}");
    }

    /// What bob is told of the event at a moment, and whether he can go on from it.
    async fn at(&self, ms: u64, dir: &str) -> Value {
        let room = &self.room;
        let path = format!("GET /_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ms}&dir={dir}");
        let told = self.b.met(&self.bob, &path, Value::Null).await;
        if let Some(id) = told["event_id"].as_str() {
            let context = format!("GET /rooms/{room}/context/{}?limit=1", id.replace('$', "%24"));
            let context = self.b.met(&self.bob, &context, Value::Null).await;
            assert_eq!(context["event"]["event_id"], id, "{context}");
        }
        told["event_id"].clone()
    }
}

/// What happened before this server came is found at those that were there.
#[tokio::test]
async fn the_time_before_a_join_is_known_to_others() {
    let scene = Scene::new().await;
    let mut said = Vec::new();
    for n in 0..6 {
        said.push(scene.say(n).await);
    }
    scene.join().await;
    let near = BEGIN + 21_000; // The second was said after 20 s.
    assert_eq!(scene.at(near, "b").await, json!(said[1]));
    assert_eq!(scene.at(near, "f").await, json!(said[2]));
    assert!(scene.net.asked("/timestamp_to_event/").iter().all(|server| server == "a.org"));
    // By now it is here, and others are asked all the same.
    assert_eq!(scene.at(near, "b").await, json!(said[1]));
    assert_eq!(scene.net.asked("/timestamp_to_event/"), ["a.org"]);
    scene.net.refuse("/timestamp_to_event/");
    assert_eq!(scene.at(near, "b").await, json!(said[1]), "who does not answer takes away nothing");
    assert_eq!(scene.at(near, "f").await, json!(said[2]));
    assert_eq!(scene.at(BEGIN + 59_000, "f").await, json!(said[5]));
    assert_eq!(scene.at(BEGIN + 10_500, "b").await, json!(said[0]));
}

/// Something is missing between events that are here: what others have there is nearer.
#[tokio::test]
async fn a_gap_in_the_middle_is_known_to_others() {
    let scene = Scene::new().await;
    scene.join().await;
    let first = scene.say(0).await;
    scene.deliver(&first).await;
    // From now on nothing comes to b by itself.
    scene.net.refuse("/send/");
    let mut missed = Vec::new();
    for n in 1..5 {
        missed.push(scene.say(n).await);
    }
    scene.net.refuse("/get_missing_events/");
    let last = scene.say(5).await;
    scene.deliver(&last).await;
    assert!(scene.b.app.history.event(&missed[1]).await.unwrap().is_none_or(|event| !event.is_shown()));
    scene.net.refuse("/timestamp_to_event/");
    let near = BEGIN + 31_000; // `missed[1]` was said after 30 s.
    assert_eq!(scene.at(near, "b").await, json!(first), "nobody tells of anything nearer");
    assert_eq!(scene.at(near, "f").await, json!(last));
    scene.net.allow("/timestamp_to_event/");
    assert_eq!(scene.at(near, "b").await, json!(missed[1]));
    assert_eq!(scene.at(near, "f").await, json!(missed[2]));
    assert!(scene.b.app.history.event(&missed[1]).await.unwrap().is_some_and(|event| event.is_shown()));
    assert!(scene.b.clock.now_ms() > near);
    scene.net.refuse("/timestamp_to_event/");
    assert_eq!(scene.at(near, "b").await, json!(missed[1]), "by now it is here");
    assert_eq!(scene.at(near, "f").await, json!(missed[2]));
}
