//! To-device messages and dehydrated devices.

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedUserId, server_name, to_device::DeviceIdOrAllDevices};
use serde_json::{Value, json};

use super::{Identity, World, one_time_keys, raw, upload, user};
use crate::{
    device::{NewDehydrated, Sending},
    limits::{RECEIVED_KEPT_MS, TO_DEVICE_STRANGERS_MAX},
    log::{Audience, Commit, OnceKey},
    store::Scan,
    types::{Fact, Lane, Position},
};

async fn send(world: &World, txn_id: &str, messages: Value) -> Result<(), String> {
    let messages: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = serde_json::from_value(messages).unwrap();
    let by_device = |devices: BTreeMap<String, Value>| {
        devices
            .into_iter()
            .map(|(device, content)| {
                (DeviceIdOrAllDevices::try_from(device.as_str()).unwrap(), raw(&content))
            })
            .collect()
    };
    let messages = messages.into_iter().map(|(user, devices)| (user, by_device(devices))).collect();
    let sender = user("alice");
    let sending = Sending { user: &sender, device: "ALICE".into(), event_type: "m.test", txn_id };
    world.devices.send_to_device(&sending, &messages).await.map_err(|error| error.to_string())
}

async fn waiting(world: &World, lane: Lane) -> Vec<String> {
    let facts = world.log.queued(&lane, Position::ZERO, 100).await.unwrap();
    let text = |fact| match fact {
        Fact::ToDevice { content, .. } | Fact::Edu { content, .. } => content,
        other => panic!("{other:?}"),
    };
    facts.into_iter().map(|(_, fact)| text(fact)).collect()
}

fn inbox(name: &str, device: &str) -> Lane {
    Lane::Inbox(user(name), device.into())
}

#[tokio::test]
async fn messages_reach_the_named_devices_once_and_in_order() {
    let world = World::new().await;
    for (name, device) in [("bob", "B1"), ("bob", "B2"), ("carol", "C1")] {
        world.log_in(name, device).await;
    }
    let first = json!({ "@bob:here": { "*": { "n": 1 } }, "@carol:here": { "C1": { "n": 1 }, "GONE": {} } });
    send(&world, "t1", first.clone()).await.unwrap();
    send(&world, "t1", first).await.unwrap();
    send(&world, "t2", json!({ "@bob:here": { "B2": { "n": 2 } } })).await.unwrap();
    assert_eq!(waiting(&world, inbox("bob", "B1")).await, [r#"{"n":1}"#]);
    assert_eq!(waiting(&world, inbox("bob", "B2")).await, [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(waiting(&world, inbox("carol", "C1")).await, [r#"{"n":1}"#]);
    assert!(waiting(&world, inbox("carol", "GONE")).await.is_empty());
}

/// The ids of what other servers bring are no longer kept than anybody repeats it, and not at all if it is for nobody.
#[tokio::test]
async fn what_other_servers_bring_is_remembered_for_its_time() {
    let world = World::new().await;
    world.log_in("bob", "B1").await;
    let bring = async |id: &str, to: &str| {
        let messages = json!({ to: { "B1": { "n": id } } });
        let direct =
            json!({ "sender": "@eve:there", "type": "m.test", "message_id": id, "messages": messages });
        let direct = serde_json::from_value(direct).unwrap();
        world.devices.receive_to_device(server_name!("there"), direct).await.unwrap();
    };
    let remembered = async || {
        let from = OnceKey::servers_prefix();
        let scan = Scan { to: from.after_prefix(), from, reverse: false, limit: 100 };
        world.log.db().scan_many(&[scan]).await.unwrap().pop().unwrap().len()
    };
    bring("m1", "@nobody:here").await;
    bring("m1", "@bob:elsewhere").await;
    assert_eq!(remembered().await, 0);
    bring("m1", "@bob:here").await;
    bring("m1", "@bob:here").await;
    assert_eq!(waiting(&world, inbox("bob", "B1")).await, [r#"{"n":"m1"}"#]);
    world.clock.advance(Duration::from_millis(RECEIVED_KEPT_MS - 1));
    bring("m2", "@bob:here").await;
    world.devices.forget_received().await.unwrap();
    assert_eq!(remembered().await, 2);
    world.clock.advance(Duration::from_millis(2));
    world.devices.forget_received().await.unwrap();
    assert_eq!(remembered().await, 1);
    bring("m2", "@bob:here").await;
    assert_eq!(waiting(&world, inbox("bob", "B1")).await.len(), 2);
}

#[tokio::test]
async fn other_servers_get_one_edu_for_each_request() {
    let world = World::new().await;
    let messages = json!({ "@x:there": { "*": { "n": 1 } }, "@y:there": { "Y": { "n": 2 } } });
    send(&world, "t1", messages.clone()).await.unwrap();
    send(&world, "t1", messages.clone()).await.unwrap();
    let edus = waiting(&world, Lane::Outbox("there".try_into().unwrap())).await;
    assert_eq!(edus.len(), 1);
    let edu: Value = serde_json::from_str(&edus[0]).unwrap();
    assert_eq!((&edu["messages"], &edu["sender"]), (&messages, &json!("@alice:here")));
    assert_eq!(edu["type"], "m.test");
    assert!(edu["message_id"].is_string());
}

/// One EDU with everything might be more than the server takes; contents stay whole.
#[tokio::test]
async fn much_for_one_server_becomes_several_edus() {
    let world = World::new().await;
    let content = json!({ "x": "x".repeat(30_000) });
    let of_user = |n: usize| json!({ "A": content, "B": content, "*": { "n": n } });
    let messages: serde_json::Map<String, Value> =
        (0..5).map(|n| (format!("@u{n}:there"), of_user(n))).collect();
    send(&world, "t1", Value::Object(messages.clone())).await.unwrap();
    let edus = waiting(&world, Lane::Outbox("there".try_into().unwrap())).await;
    assert_eq!(edus.len(), 5);
    let (mut ids, mut all) = (std::collections::BTreeSet::new(), serde_json::Map::new());
    for edu in edus {
        assert!(edu.len() < crate::limits::TO_DEVICE_EDU_BYTES_MAX + 1_000, "{} bytes", edu.len());
        let edu: Value = serde_json::from_str(&edu).unwrap();
        ids.insert(edu["message_id"].as_str().unwrap().to_owned());
        for (user, by_device) in edu["messages"].as_object().unwrap() {
            let of_user = all.entry(user).or_insert_with(|| json!({})).as_object_mut().unwrap();
            of_user.extend(by_device.as_object().unwrap().clone());
        }
    }
    assert_eq!((ids.len(), all), (5, messages), "each has an id of its own, and nothing is lost");
}

/// Names that are made up must not fill the store with what can never be delivered.
#[tokio::test]
async fn only_so_many_servers_may_be_named_that_share_no_room() {
    let world = World::new().await;
    let mut commit = Commit::new();
    let egress = Lane::Egress("!r:here".try_into().unwrap());
    commit.fact(egress.clone(), Fact::StateMoved);
    for n in 0..200 {
        commit.open(Audience::Server(format!("known{n}").try_into().unwrap()), egress.clone());
    }
    world.log.commit(commit).await.unwrap();
    let messages = |kind: &str, count: usize| {
        let users = (0..count).map(|n| (format!("@u:{kind}{n}"), json!({ "*": {} })));
        Value::Object(users.collect())
    };
    send(&world, "t1", messages("known", 200)).await.unwrap();
    send(&world, "t2", messages("new", TO_DEVICE_STRANGERS_MAX)).await.unwrap();
    send(&world, "t3", messages("other", TO_DEVICE_STRANGERS_MAX + 1)).await.unwrap_err();
    assert!(waiting(&world, Lane::Outbox("other0".try_into().unwrap())).await.is_empty());
}

#[tokio::test]
async fn contents_must_be_objects_of_bounded_size() {
    let world = World::new().await;
    world.log_in("bob", "B1").await;
    for content in [json!(1), json!([]), json!({ "x": "x".repeat(crate::limits::TO_DEVICE_BYTES_MAX) })] {
        send(&world, "t1", json!({ "@bob:here": { "B1": content } })).await.unwrap_err();
    }
    assert!(waiting(&world, inbox("bob", "B1")).await.is_empty());
}

fn dehydrated(identity: &Identity, keys: Value) -> NewDehydrated {
    NewDehydrated {
        device_id: identity.device.clone(),
        device_data: json!({ "algorithm": "m.dehydration.v2" }),
        display_name: Some("Dehydrated".into()),
        keys: upload(&keys),
    }
}

fn keys_of(identity: &Identity, range: std::ops::Range<usize>) -> Value {
    let mut keys = one_time_keys(range);
    keys["device_keys"] = identity.device_keys();
    keys
}

#[tokio::test]
async fn a_dehydrated_device_collects_messages_until_it_is_replaced() {
    let world = World::new().await;
    let bob = user("bob");
    let (first, second) = (Identity::new("bob", "D1"), Identity::new("bob", "D2"));
    world.devices.dehydrated(&bob).await.unwrap_err();
    world.devices.dehydrate(&bob, &dehydrated(&first, keys_of(&first, 0..2))).await.unwrap();
    for n in 0..3 {
        send(&world, &n.to_string(), json!({ "@bob:here": { "D1": { "n": n } } })).await.unwrap();
    }
    let (events, next) = world.devices.dehydrated_events(&bob, &first.device, None).await.unwrap();
    let event = |n: u64| json!({ "sender": "@alice:here", "type": "m.test", "content": { "n": n } });
    assert_eq!(events, [event(0), event(1), event(2)]);
    let (rest, _) = world.devices.dehydrated_events(&bob, &first.device, Some(&next)).await.unwrap();
    assert!(rest.is_empty());
    let (again, _) = world.devices.dehydrated_events(&bob, &first.device, None).await.unwrap();
    assert_eq!(again, events, "reading takes nothing away");
    world.devices.dehydrated_events(&bob, &first.device, Some("x")).await.unwrap_err();
    world.devices.dehydrated_events(&bob, &second.device, None).await.unwrap_err();

    world.devices.dehydrate(&bob, &dehydrated(&second, keys_of(&second, 0..1))).await.unwrap();
    assert_eq!(world.devices.dehydrated(&bob).await.unwrap().device_id, second.device);
    let devices = world.devices.list(&bob).await.unwrap();
    assert_eq!(devices.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["D2"]);
    assert!(waiting(&world, inbox("bob", "D1")).await.is_empty());
    assert_eq!(world.devices.remove_dehydrated(&bob).await.unwrap(), second.device);
    assert!(world.devices.list(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dehydrated_device_may_be_replaced_under_the_same_id_but_not_take_another_devices() {
    let world = World::new().await;
    let bob = user("bob");
    let old = Identity::new("bob", "D1");
    world.devices.dehydrate(&bob, &dehydrated(&old, keys_of(&old, 0..3))).await.unwrap();
    let new = Identity::with_seed("bob", "D1", "new");
    world.devices.dehydrate(&bob, &dehydrated(&new, keys_of(&new, 2..3))).await.unwrap();
    let counts = world.devices.key_counts(&bob, &new.device).await.unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 1);
    world.log_in("bob", "PHONE").await;
    let phone = Identity::new("bob", "PHONE");
    world.devices.dehydrate(&bob, &dehydrated(&phone, keys_of(&phone, 0..1))).await.unwrap_err();
    world.devices.dehydrate(&bob, &dehydrated(&new, json!({}))).await.unwrap_err();
}
