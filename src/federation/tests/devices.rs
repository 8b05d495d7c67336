//! What is kept of the devices of users of other servers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::OwnedRoomId;
use serde_json::{Value, json, value::to_raw_value};

use super::{Node, Wire, server, user};
use crate::{
    device::{Devices, QueriedKeys},
    federation::Transaction,
    limits::{DEVICE_DOUBT_EVERY_MS, DEVICE_LISTS_PAUSE_FIRST},
    types::Position,
};

/// alice@a and bob@b in one room; what b says of bob's devices is told by the test.
struct Scene {
    wire: Arc<Wire>,
    a: Arc<Node>,
    b: Arc<Node>,
    room: OwnedRoomId,
}

const DEVICES: &str = "/user/devices/";
const KEYS: &str = "/user/keys/query";

impl Scene {
    async fn new() -> Self {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", "11").await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        Self { wire, a, b, room }
    }

    fn lie(&self, path: &'static str, answer: Option<Value>) {
        let mut lies = self.wire.lies.lock();
        lies.retain(|(_, known, _)| *known != path);
        lies.push((server("b"), path, answer));
    }

    /// From now on b answers with this list.
    fn list(&self, stream_id: u64, devices: &[(&str, &str)]) {
        let devices: Vec<Value> = devices
            .iter()
            .map(|(id, name)| json!({ "device_id": id, "keys": keys(id), "device_display_name": name }))
            .collect();
        let answer = json!({ "user_id": user("bob@b"), "stream_id": stream_id, "devices": devices });
        self.lie(DEVICES, Some(answer));
    }

    /// How often b was asked for the list since this was last asked.
    fn asked(&self) -> usize {
        let mut calls = self.wire.calls.lock();
        std::mem::take(&mut *calls)
            .iter()
            .filter(|call| call.contains(DEVICES) || call.contains(KEYS))
            .count()
    }

    /// What alice is told of bob's devices: their names, or that b is not reached.
    async fn seen(&self) -> Result<BTreeMap<String, Value>, &'static str> {
        self.seen_of(&["bob@b"]).await.map(|mut all| all.remove("@bob:b.org").unwrap_or_default())
    }

    async fn seen_of(
        &self,
        users: &[&str],
    ) -> Result<BTreeMap<String, BTreeMap<String, Value>>, &'static str> {
        let federation = &self.a.federation;
        let wanted = users.iter().map(|name| (user(name), Vec::new())).collect();
        let mut found = QueriedKeys::default();
        let others = (&federation.peers, &federation.history);
        let into = (None, &mut found);
        federation.devices.query_others(others, &user("alice@a"), &wanted, into).await.unwrap();
        if !found.unreachable.is_empty() {
            return Err("unreachable");
        }
        let name = |keys: Value| keys["unsigned"]["device_display_name"].clone();
        let read = |(device, keys)| {
            let keys: Value = serde_json::from_value(json!(keys)).unwrap();
            (ruma::OwnedDeviceId::to_string(&device), name(keys))
        };
        let all = found.device_keys.into_iter();
        Ok(all.map(|(user, devices)| (user.to_string(), devices.into_iter().map(read).collect())).collect())
    }

    async fn tell(&self, edu_type: &str, content: Value) {
        let edu = to_raw_value(&json!({ "edu_type": edu_type, "content": content })).unwrap();
        self.a.federation.receive_edus(&self.b.name, &[edu]).await.unwrap();
    }

    async fn update(&self, (stream_id, prev): (u64, &[u64]), device: &str, more: Value) {
        let mut content = json!({
            "user_id": user("bob@b"), "device_id": device, "stream_id": stream_id, "prev_id": prev,
        });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.tell("m.device_list_update", content).await;
    }

    async fn renew(&self) -> Duration {
        let federation = &self.a.federation;
        federation.devices.renew_due(&federation.peers, &federation.history).await.unwrap()
    }

    fn head(&self) -> Position {
        self.a.federation.log.head()
    }
}

fn keys(device: &str) -> Value {
    json!({
        "user_id": user("bob@b"), "device_id": device, "algorithms": [], "signatures": {},
        "keys": { format!("ed25519:{device}"): "k", format!("curve25519:{device}"): format!("c{device}") },
    })
}

fn named(devices: &[(&str, &str)]) -> Result<BTreeMap<String, Value>, &'static str> {
    Ok(devices.iter().map(|(id, name)| (String::from(*id), json!(name))).collect())
}

#[tokio::test]
async fn a_list_is_asked_for_once_and_then_followed() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    assert_eq!(scene.seen().await, named(&[("ONE", "first")]));
    assert_eq!(scene.asked(), 1);
    scene.update((6, &[5]), "TWO", json!({ "keys": keys("TWO"), "device_display_name": "second" })).await;
    scene.update((7, &[6]), "ONE", json!({ "keys": keys("ONE"), "device_display_name": "renamed" })).await;
    assert_eq!(scene.seen().await, named(&[("ONE", "renamed"), ("TWO", "second")]));
    scene.update((8, &[7]), "TWO", json!({ "deleted": true })).await;
    assert_eq!(scene.seen().await, named(&[("ONE", "renamed")]));
    scene.wire.cut("a", "b");
    assert_eq!(scene.seen().await, named(&[("ONE", "renamed")]), "b need not be there");
    assert_eq!(scene.asked(), 0);
}

/// A change has all clients look it up at once, and the list is renewed by itself too.
#[tokio::test]
async fn whoever_wants_a_list_that_is_asked_for_waits_for_the_answer() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    let first = named(&[("ONE", "first")]);
    assert_eq!(tokio::join!(scene.seen(), scene.seen()), (first.clone(), first));
    assert_eq!(scene.asked(), 1);
    scene.list(8, &[("ONE", "renamed")]);
    scene.update((8, &[7]), "ONE", json!({ "keys": keys("ONE"), "device_display_name": "renamed" })).await;
    let (_, seen, again) = tokio::join!(scene.renew(), scene.seen(), scene.seen());
    let renamed = named(&[("ONE", "renamed")]);
    assert_eq!((seen, again), (renamed.clone(), renamed));
    assert_eq!(scene.asked(), 1);

    // An answer that is of no use to the others has them ask themselves.
    scene.update((10, &[9]), "ONE", json!({ "keys": keys("ONE") })).await;
    scene.lie(DEVICES, None);
    assert_eq!(tokio::join!(scene.seen(), scene.seen()), (Err("unreachable"), Err("unreachable")));
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn a_repeated_update_wakes_nobody() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    scene.seen().await.unwrap();
    let update = json!({ "keys": keys("TWO"), "device_display_name": "second" });
    scene.update((6, &[5]), "TWO", update.clone()).await;
    let head = scene.head();
    scene.update((6, &[5]), "TWO", update).await;
    assert_eq!(scene.head(), head);
    assert_eq!(scene.seen().await, named(&[("ONE", "first"), ("TWO", "second")]));
    assert_eq!(scene.asked(), 1);
}

/// An update after which the list is asked for anew, by the server itself or because a client asks.
async fn check_gap(change: (u64, &[u64]), more: Value) {
    for renews in [true, false] {
        let scene = Scene::new().await;
        scene.list(5, &[("ONE", "first")]);
        scene.seen().await.unwrap();
        let head = scene.head();
        scene.update(change, "TWO", more.clone()).await;
        assert!(scene.head() > head, "clients are told: {change:?} {more}");
        scene.list(9, &[("THREE", "third")]);
        scene.asked();
        if renews {
            scene.renew().await;
            assert_eq!(scene.asked(), 1, "{change:?} {more}");
        }
        assert_eq!(scene.seen().await, named(&[("THREE", "third")]), "{change:?} {more}");
        assert_eq!(scene.asked(), usize::from(!renews), "{change:?} {more}");
        scene.update((10, &[9]), "THREE", json!({ "deleted": true })).await;
        scene.renew().await;
        assert_eq!((scene.seen().await, scene.asked()), (named(&[]), 0), "it is followed again");
    }
}

#[tokio::test]
async fn a_gap_has_the_list_asked_for_anew() {
    let two = json!({ "keys": keys("TWO") });
    check_gap((8, &[7]), two.clone()).await;
    check_gap((8, &[5, 7]), two.clone()).await;
    check_gap((6, &[]), two.clone()).await;
    check_gap((3, &[2]), two).await;
    check_gap((6, &[5]), json!({ "keys": keys("OTHER") })).await;
    check_gap((6, &[5]), json!({ "stream_id": "six" })).await;
}

/// A message by a device that nobody has told of has the list asked for anew; but not each one, and not one by a device
/// that is known.
#[tokio::test]
async fn a_message_by_an_unknown_device_has_the_list_asked_for_anew() {
    for by_room in [true, false] {
        let scene = Scene::new().await;
        scene.list(1, &[("ONE", "one")]);
        scene.seen().await.unwrap();
        scene.asked();
        scene.list(2, &[("ONE", "one"), ("TWO", "two")]);
        let speak = async |n: u64, device: &str| {
            let federation = &scene.a.federation;
            let key = &keys(device)["keys"][format!("curve25519:{device}")];
            let content =
                json!({ "algorithm": "m.x", "device_id": device, "sender_key": key, "ciphertext": "x" });
            let bob = user("bob@b");
            let mut transaction = Transaction { id: n.to_string(), pdus: Vec::new(), edus: Vec::new() };
            if by_room {
                let event = (&bob, "m.room.encrypted", None, content);
                let event = scene.b.build(&scene.b, &scene.room, event).await;
                transaction.pdus.push(event.json().to_owned());
            } else {
                let messages = json!({ user("alice@a"): { "*": content } });
                let direct = json!({
                    "sender": bob, "type": "m.room.encrypted", "message_id": n.to_string(), "messages": messages,
                });
                let edu = json!({ "edu_type": "m.direct_to_device", "content": direct });
                transaction.edus.push(to_raw_value(&edu).unwrap());
            }
            federation.receive(&scene.b.name, transaction).await.unwrap();
            scene.renew().await;
        };
        speak(1, "ONE").await;
        assert_eq!(scene.asked(), 0, "it is known");
        speak(2, "TWO").await;
        assert_eq!(scene.asked(), 1, "by_room {by_room}");
        assert_eq!(scene.seen().await.unwrap().len(), 2);
        for n in 3..9 {
            speak(n, "THREE").await;
        }
        assert_eq!(scene.asked(), 0, "anybody may make up devices");
        scene.wire.clock.advance(Duration::from_millis(DEVICE_DOUBT_EVERY_MS));
        speak(9, "THREE").await;
        assert_eq!(scene.asked(), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_again_later_even_after_a_restart() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    scene.seen().await.unwrap();
    scene.lie(DEVICES, None);
    scene.update((8, &[7]), "TWO", json!({ "keys": keys("TWO") })).await;
    scene.asked();
    let pause = scene.renew().await;
    assert_eq!(scene.asked(), 1);
    assert!(pause <= DEVICE_LISTS_PAUSE_FIRST && pause > DEVICE_LISTS_PAUSE_FIRST / 2, "{pause:?}");
    scene.renew().await;
    assert_eq!(scene.asked(), 0, "not before the pause is over");
    assert_eq!(scene.seen().await, Err("unreachable"), "what is stale is not told");
    scene.list(8, &[("ONE", "first"), ("TWO", "second")]);
    scene.wire.clock.advance(DEVICE_LISTS_PAUSE_FIRST * 2);
    let federation = &scene.a.federation;
    let anew = Devices::new(federation.log.clone(), federation.ports.clone(), scene.a.name.clone());
    scene.asked();
    anew.renew_due(&federation.peers, &federation.history).await.unwrap();
    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.seen().await, named(&[("ONE", "first"), ("TWO", "second")]));
    assert_eq!(scene.asked(), 0);
}

#[tokio::test]
async fn a_list_ends_with_the_room_that_is_shared() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    scene.seen().await.unwrap();
    scene.b.rooms().leave(&user("bob@b"), &scene.room, None).await.unwrap();
    scene.wire.drive().await;
    scene.b.join_through(&scene.a, &scene.room, "bob@b").await.unwrap();
    scene.wire.drive().await;
    scene.list(9, &[("NEW", "other")]);
    scene.asked();
    assert_eq!(scene.seen().await, named(&[("NEW", "other")]), "what changed in between was not told to us");
    assert_eq!(scene.asked(), 1);
    scene.b.rooms().leave(&user("bob@b"), &scene.room, None).await.unwrap();
    scene.wire.drive().await;
    let answer = json!({ "device_keys": { user("bob@b"): { "LAST": keys("LAST") } } });
    scene.lie(KEYS, Some(answer));
    scene.asked();
    for _ in 0..2 {
        let seen = scene.seen().await.unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["LAST"]);
    }
    assert_eq!(scene.asked(), 2, "nobody tells us of changes");
}

#[tokio::test]
async fn many_users_are_asked_about_at_once() {
    let scene = Scene::new().await;
    let names: Vec<String> = (0..9).map(|n| format!("u{n}@b")).collect();
    for name in &names {
        scene.b.join_through(&scene.a, &scene.room, name).await.unwrap();
        scene.wire.drive().await;
    }
    let of = |name: &String| {
        let keys = json!({ "user_id": user(name), "device_id": "DEV", "algorithms": [], "keys": {}, "signatures": {} });
        (user(name).to_string(), json!({ "DEV": keys, "FOREIGN": keys }))
    };
    let answer: serde_json::Map<String, Value> = names.iter().map(of).collect();
    scene.lie(KEYS, Some(json!({ "device_keys": answer })));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.asked();
    let seen = scene.seen_of(&names).await.unwrap();
    assert_eq!(seen.len(), 9);
    assert!(seen.values().all(|devices| devices.keys().eq(["DEV"])), "{seen:?}");
    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.seen_of(&names).await.unwrap(), seen);
    assert_eq!(scene.asked(), 0);
}

impl Scene {
    /// Whether alice is told to look up bob's devices by what has happened since.
    async fn is_told(&self, since: Position) -> bool {
        let federation = &self.a.federation;
        let span = (since, self.head());
        let alice = user("alice@a");
        let changes = federation.devices.list_changes(&federation.history, &alice, span, None).await.unwrap();
        changes.changed.contains(&user("bob@b"))
    }
}

/// What bob's devices did while he was away is not told to a, although he was there before and is now.
#[tokio::test]
async fn whoever_was_away_meanwhile_is_looked_up_again() {
    let scene = Scene::new().await;
    let since = scene.head();
    let name = json!({ "membership": "join", "displayname": "Bob" });
    scene.b.set("bob@b", &scene.room, ("m.room.member", "@bob:b.org"), name).await.unwrap();
    scene.wire.drive().await;
    assert!(scene.head() > since && !scene.is_told(since).await, "a new name is no reason");
    scene.b.rooms().leave(&user("bob@b"), &scene.room, None).await.unwrap();
    scene.wire.drive().await;
    scene.b.join_through(&scene.a, &scene.room, "bob@b").await.unwrap();
    assert!(scene.is_told(since).await);
}

/// The same where it is alice who was away.
#[tokio::test]
async fn whoever_was_away_looks_everybody_up_again() {
    let scene = Scene::new().await;
    let since = scene.head();
    scene.a.rooms().leave(&user("alice@a"), &scene.room, None).await.unwrap();
    scene.wire.drive().await;
    scene.a.join_through(&scene.b, &scene.room, "alice@a").await.unwrap();
    assert!(scene.is_told(since).await);
}

/// A list that is asked for may have what its server has yet to tell. Only who has asked knows it then.
#[tokio::test]
async fn what_a_list_has_before_it_is_told_is_told_to_all() {
    let scene = Scene::new().await;
    scene.list(5, &[("ONE", "first")]);
    scene.seen().await.unwrap();
    let since = scene.head();
    // A join that is another has the list asked for anew.
    let name = json!({ "membership": "join", "displayname": "Bob" });
    scene.b.set("bob@b", &scene.room, ("m.room.member", "@bob:b.org"), name).await.unwrap();
    scene.wire.drive().await;
    scene.list(6, &[("ONE", "first"), ("TWO", "second")]);
    scene.seen().await.unwrap();
    assert!(scene.is_told(since).await);

    // The first list may have it too.
    let scene = Scene::new().await;
    scene.list(6, &[("ONE", "first"), ("TWO", "second")]);
    scene.seen().await.unwrap();
    let since = scene.head();
    let update = json!({ "keys": keys("TWO"), "device_display_name": "second" });
    scene.update((6, &[5]), "TWO", update.clone()).await;
    assert!(scene.is_told(since).await);
    let since = scene.head();
    scene.update((6, &[5]), "TWO", update).await;
    assert!(!scene.is_told(since).await, "once is enough");
}
