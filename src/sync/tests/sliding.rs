//! Sliding sync: windows, positions, and the parts of a room one by one.

use ruma::RoomId;
use serde_json::{Value, json};

use super::{World, place_of, text, user, words};
use crate::{
    ephemeral::Thread,
    room::NewRoom,
    sync::{SlidingShape, SyncError},
};

/// A request with one list of all rooms up to `last`.
pub(super) fn list(pos: &Value, last: u64) -> Value {
    with(pos, json!({"ranges": [[0, last]], "timeline_limit": 3, "required_state": []}))
}

fn with(pos: &Value, list: Value) -> Value {
    let mut body = json!({ "lists": {"a": list} });
    if let Some(pos) = pos.as_str() {
        body["pos"] = pos.into();
    }
    body
}

/// A request with extensions and all rooms.
pub(super) fn extended(pos: &Value, extensions: Value) -> Value {
    let mut body = list(pos, 99);
    body["extensions"] = extensions;
    body
}

pub(super) fn rooms(answer: &Value) -> Vec<String> {
    answer["rooms"].as_object().into_iter().flatten().map(|(room, _)| room.clone()).collect()
}

pub(super) fn sorted(rooms: &[&RoomId]) -> Vec<String> {
    let mut rooms: Vec<String> = rooms.iter().map(ToString::to_string).collect();
    rooms.sort();
    rooms
}

pub(super) fn of<'a>(answer: &'a Value, room: &RoomId) -> &'a Value {
    &answer["rooms"][room.as_str()]
}

#[tokio::test]
async fn a_window_grows_and_says_what_is_new() {
    let world = World::new(false).await;
    let (one, two, three) = (world.room("alice").await, world.room("alice").await, world.room("alice").await);
    world.say("alice", &one, "up").await;
    let first = world.slide("alice", list(&Value::Null, 1)).await;
    assert_eq!(first["lists"]["a"]["count"], 3);
    assert_eq!(rooms(&first), sorted(&[&one, &three]));
    assert_eq!(of(&first, &one)["initial"], true);
    assert_eq!(words(&of(&first, &one)["timeline"]).last().unwrap(), "up");
    assert_eq!(of(&first, &one)["limited"], true);
    assert_eq!(of(&first, &one)["num_live"], 0);
    assert_eq!(of(&first, &one)["joined_count"], 1);
    let grown = world.slide("alice", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&grown), sorted(&[&two]));
    world.say("alice", &two, "hello").await;
    for _ in 0..2 {
        let next = world.slide("alice", list(&grown["pos"], 9)).await;
        assert_eq!(rooms(&next), sorted(&[&two]), "a repeated position says the same");
        let room = of(&next, &two);
        assert_eq!(words(&room["timeline"]), ["hello"]);
        assert_eq!(
            (&room["initial"], &room["limited"], &room["num_live"]),
            (&Value::Null, &Value::Null, &json!(1))
        );
    }
    let next = world.slide("alice", list(&grown["pos"], 9)).await;
    let quiet = world.slide("alice", list(&next["pos"], 9)).await;
    assert_eq!(rooms(&quiet), [""; 0]);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_whatever_the_window() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let other = world.room("alice").await;
    let first = world.slide("alice", list(&Value::Null, 0)).await;
    assert_eq!(rooms(&first), sorted(&[&other]));
    // Lost: the next request builds on the first.
    world.slide("alice", list(&first["pos"], 9)).await;
    let again = world.slide("alice", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&again), sorted(&[&room]));
    let narrow = world.slide("alice", list(&first["pos"], 0)).await;
    assert_eq!(rooms(&narrow), [""; 0]);
    let wide = world.slide("alice", list(&narrow["pos"], 9)).await;
    assert_eq!(rooms(&wide), sorted(&[&room]));
}

#[tokio::test]
async fn what_comes_outside_of_the_window_is_told_when_the_room_is_in_it() {
    let world = World::new(false).await;
    let (room, other) = (world.room("alice").await, world.room("alice").await);
    world.join("bob", &room).await.unwrap();
    let mut pos = world.slide("bob", list(&Value::Null, 9)).await["pos"].clone();
    world.join("bob", &other).await.unwrap();
    world.say("alice", &room, "one").await;
    world.say("alice", &room, "two").await;
    world.say("alice", &other, "up").await;
    let narrow = world.slide("bob", list(&pos, 0)).await;
    assert_eq!(rooms(&narrow), sorted(&[&other]));
    pos = narrow["pos"].clone();
    world.say("alice", &other, "up").await;
    pos = world.slide("bob", list(&pos, 0)).await["pos"].clone();
    let world = world.restart().await;
    let wide = world.slide("bob", list(&pos, 9)).await;
    assert_eq!(rooms(&wide), sorted(&[&room]), "positions survive a restart");
    assert_eq!(words(&of(&wide, &room)["timeline"]), ["one", "two"]);
    assert_eq!(of(&wide, &room)["initial"], Value::Null);
    assert_eq!(of(&wide, &room)["num_live"], Value::from(0));
}

#[tokio::test]
async fn positions_are_judged() {
    let world = World::new(false).await;
    world.room("alice").await;
    let first = world.slide("alice", list(&Value::Null, 9)).await;
    let pos = first["pos"].as_str().unwrap();
    let future = format!("s999999~{}", pos.split_once('~').unwrap().1);
    let ask = |device, conn: &str, pos: &str| {
        let mut body = list(&pos.into(), 9);
        body["conn_id"] = conn.into();
        world.try_slide(("alice", device), SlidingShape::Final, body)
    };
    for (device, conn, pos) in
        [("D", "", "nonsense"), ("D", "", "s1~1"), ("D", "", &future), ("E", "", pos), ("D", "other", pos)]
    {
        assert!(matches!(ask(device, conn, pos).await, Err(SyncError::UnknownPos)), "{device} {conn} {pos}");
    }
    ask("D", "", pos).await.unwrap();
    // A connection that begins anew forgets what was.
    world.slide("alice", list(&Value::Null, 0)).await;
    world.say("alice", &world.room("alice").await, "x").await;
    world.slide("alice", list(&Value::Null, 9)).await;
    assert!(matches!(ask("D", "", pos).await, Err(SyncError::UnknownPos)));
}

#[tokio::test]
async fn a_device_has_so_many_connections() {
    let world = World::new(false).await;
    world.room("alice").await;
    let ask = |conn: usize, pos: Value| {
        let mut body = list(&pos, 9);
        body["conn_id"] = conn.to_string().into();
        world.try_slide(("alice", "D"), SlidingShape::Final, body)
    };
    let mut positions = Vec::new();
    for conn in 0..20 {
        positions.push(ask(conn, Value::Null).await.unwrap()["pos"].clone());
        world.say("alice", &world.room("alice").await, "x").await;
    }
    assert!(ask(0, positions[0].clone()).await.is_err());
    assert!(ask(4, positions[4].clone()).await.is_ok());
    assert!(ask(19, positions[19].clone()).await.is_ok());
}

#[tokio::test]
async fn state_is_given_as_it_is_wanted() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    world.set("alice", &room, "m.room.name", json!({"name": "den"})).await;
    world.say("bob", &room, "x").await;
    let cases = [
        (json!([["m.room.name", ""]]), vec!["m.room.name "]),
        (json!([["m.room.name", "*"], ["m.room.topic", ""]]), vec!["m.room.name "]),
        (json!([["m.room.member", "$ME"]]), vec!["m.room.member @alice:a.org"]),
        (json!([["m.room.member", "$LAZY"]]), vec!["m.room.member @bob:a.org"]),
        (json!([["m.room.member", "*"]]), vec!["m.room.member @alice:a.org", "m.room.member @bob:a.org"]),
        (json!([]), vec![]),
    ];
    for (required, expected) in cases {
        let ask = json!({"ranges": [[0, 9]], "timeline_limit": 1, "required_state": required});
        let answer = world.slide("alice", with(&Value::Null, ask)).await;
        assert_eq!(keys(of(&answer, &room)), expected, "{required}");
        assert_eq!(of(&answer, &room)["name"], "den");
    }
    let ask = |pos: &Value, required: Value| {
        with(pos, json!({"range": [0, 9], "timeline_limit": 1, "required_state": required}))
    };
    let all = json!({"include": [{}], "exclude": [{"type": "m.room.create"}], "lazy_members": true});
    let first = world.slide("alice", ask(&Value::Null, all)).await;
    let found = keys(of(&first, &room));
    assert!(
        !found.contains(&String::from("m.room.create ")) && found.contains(&String::from("m.room.name "))
    );
    assert!(!found.contains(&String::from("m.room.member @alice:a.org")));
}

fn keys(room: &Value) -> Vec<String> {
    let key = |event: &Value| {
        format!("{} {}", event["type"].as_str().unwrap(), event["state_key"].as_str().unwrap())
    };
    let mut keys: Vec<String> = room["required_state"].as_array().into_iter().flatten().map(key).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn what_is_wanted_may_change() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    for n in 0..6 {
        world.say("alice", &room, &n.to_string()).await;
    }
    world.set("alice", &room, "m.room.topic", json!({"topic": "t"})).await;
    let ask = |pos: &Value, limit: u64, required: Value| {
        with(pos, json!({"ranges": [[0, 9]], "timeline_limit": limit, "required_state": required}))
    };
    let first = world.slide("alice", ask(&Value::Null, 1, json!([["m.room.name", ""]]))).await;
    assert_eq!(words(&of(&first, &room)["timeline"]), ["m.room.topic"]);
    let more = world.slide("alice", ask(&first["pos"], 3, json!([["m.room.topic", ""]]))).await;
    let update = of(&more, &room);
    assert_eq!(words(&update["timeline"]), ["4", "5", "m.room.topic"]);
    assert_eq!((&update["unstable_expanded_timeline"], &update["limited"]), (&json!(true), &json!(true)));
    assert_eq!((&update["num_live"], &update["initial"]), (&json!(0), &Value::Null));
    assert_eq!(keys(update), ["m.room.topic "]);
    // Less is no news, and what was given once is not given again.
    let less = world.slide("alice", ask(&more["pos"], 1, json!([]))).await;
    assert_eq!(rooms(&less), [""; 0]);
    let same = world.slide("alice", ask(&less["pos"], 3, json!([]))).await;
    assert_eq!(rooms(&same), [""; 0]);
    let all = world.slide("alice", ask(&same["pos"], 50, json!([["m.room.topic", ""]]))).await;
    assert_eq!(of(&all, &room)["limited"], Value::Null);
    assert_eq!(keys(of(&all, &room)), ["m.room.topic "]);
    assert_eq!(words(&of(&all, &room)["timeline"])[0], "m.room.create");
}

#[tokio::test]
async fn memberships_have_their_forms() {
    let world = World::new(false).await;
    let den = NewRoom { name: Some("den".into()), ..NewRoom::default() };
    let room = world.rooms.create(&user("alice"), den).await.unwrap();
    let start = world.slide("bob", list(&Value::Null, 9)).await;
    world.rooms.invite(&user("alice"), &room, &user("bob"), None).await.unwrap();
    for shape in [SlidingShape::Unstable, SlidingShape::Final] {
        let answer = world.try_slide(("bob", "D"), shape, list(&start["pos"], 9)).await.unwrap();
        let (field, other) = match shape {
            SlidingShape::Unstable => ("invite_state", "stripped_state"),
            SlidingShape::Final => ("stripped_state", "invite_state"),
        };
        let found = of(&answer, &room);
        assert!(words(&found[field]).contains(&"m.room.name".into()), "{answer}");
        assert_eq!((&found[other], &found["timeline"]), (&Value::Null, &Value::Null));
        assert_eq!(found["initial"], true);
    }
    let invited = world.slide("bob", list(&start["pos"], 9)).await;
    world.leave("bob", &room).await.unwrap();
    let gone = world.slide("bob", list(&invited["pos"], 9)).await;
    assert_eq!(of(&gone, &room)["required_state"][0]["content"]["membership"], "leave");
    let ask = list(&invited["pos"], 9);
    let told = world.try_slide(("bob", "D"), SlidingShape::Final, ask).await.unwrap();
    let (found, own) = (of(&told, &room), &of(&told, &room)["stripped_state"][0]);
    assert_eq!((&found["membership"], &own["content"]["membership"]), (&json!("leave"), &json!("leave")));
    assert_eq!((&own["state_key"], &own["event_id"]), (&json!("@bob:a.org"), &Value::Null), "{told}");
    assert_eq!((&found["timeline"], &found["required_state"]), (&Value::Null, &Value::Null));
    world.rooms.invite(&user("alice"), &room, &user("bob"), None).await.unwrap();
    let again = world.slide("bob", list(&gone["pos"], 9)).await;
    assert_ne!(of(&again, &room)["invite_state"], Value::Null);
    world.join("bob", &room).await.unwrap();
    let joined = world.try_slide(("bob", "D"), SlidingShape::Final, list(&again["pos"], 9)).await.unwrap();
    assert_eq!(
        (&of(&joined, &room)["membership"], &of(&joined, &room)["initial"]),
        (&json!("join"), &json!(true))
    );
    world.leave("bob", &room).await.unwrap();
    world.say("alice", &room, "secret").await;
    let left = world.try_slide(("bob", "D"), SlidingShape::Final, list(&joined["pos"], 9)).await.unwrap();
    assert_eq!(of(&left, &room)["membership"], "leave");
    assert!(!left.to_string().contains("secret"));
    world.say("alice", &room, "secret").await;
    let quiet = world.slide("bob", list(&left["pos"], 9)).await;
    assert_eq!((rooms(&quiet), &quiet["lists"]["a"]["count"]), (vec![], &json!(1)));
    world.rooms.forget(&user("bob"), &room).await.unwrap();
    let told = world.slide("bob", list(&joined["pos"], 9)).await;
    assert_eq!(rooms(&told), sorted(&[&room]), "whoever has the room hears, even if it is forgotten");
    let fresh = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!((rooms(&fresh), &fresh["lists"]["a"]["count"]), (vec![], &json!(0)), "left by themselves");
}

#[tokio::test]
async fn who_is_removed_is_told_and_only_that() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    world.rooms.ban(&user("alice"), &room, &user("bob"), None).await.unwrap();
    world.say("alice", &room, "secret").await;
    let mut subscribed = list(&first["pos"], 9);
    subscribed["room_subscriptions"] =
        json!({ room.as_str(): {"timeline_limit": 20, "required_state": [["*", "*"]]} });
    let told = world.slide("bob", subscribed).await;
    assert_eq!(words(&of(&told, &room)["timeline"]).last().unwrap(), "m.room.member");
    assert!(!told.to_string().contains("secret"));
    let fresh = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!(rooms(&fresh), sorted(&[&room]), "others' doing is shown to whoever begins");
    assert!(!fresh.to_string().contains("secret"));
}

#[tokio::test]
async fn subscriptions_are_for_rooms_of_the_user() {
    let world = World::new(false).await;
    let (mine, other) = (world.room("alice").await, world.room("bob").await);
    let config = json!({"timeline_limit": 9, "required_state": [["*", "*"]]});
    let body =
        json!({"room_subscriptions": {mine.as_str(): config, other.as_str(): config, "!no:a.org": config}});
    let answer = world.slide("alice", body).await;
    assert_eq!(rooms(&answer), sorted(&[&mine]));
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = World::new(false).await;
    let (plain, direct, secret) =
        (world.room("alice").await, world.room("alice").await, world.room("alice").await);
    let space = json!({"type": "m.space"});
    let space = NewRoom { creation_content: space.as_object().cloned().unwrap(), ..NewRoom::default() };
    let space = world.rooms.create(&user("alice"), space).await.unwrap();
    world.set("alice", &secret, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    world.set("alice", &plain, "m.room.name", json!({"name": "The Den"})).await;
    world.set_data("alice", None, "m.direct", json!({"@bob:a.org": [direct]})).await;
    world.set_data("alice", Some(&plain), "m.tag", json!({"tags": {"m.favourite": {}}})).await;
    let (kind, child) = ("m.space.child".into(), plain.as_str());
    let content = serde_json::value::to_raw_value(&json!({"via": ["a.org"]})).unwrap();
    world.rooms.set_state(&user("alice"), &space, (&kind, child), content).await.unwrap();
    let bobs = world.room("bob").await;
    world.rooms.invite(&user("bob"), &bobs, &user("alice"), None).await.unwrap();
    let cases: Vec<(Value, Vec<&RoomId>)> = vec![
        (json!({"is_dm": true}), vec![&direct]),
        (json!({"is_dm": false}), vec![&plain, &secret, &space, &bobs]),
        (json!({"is_encrypted": true}), vec![&secret]),
        (json!({"is_invite": true}), vec![&bobs]),
        (json!({"is_invited": false, "is_encrypted": false}), vec![&plain, &direct, &space]),
        (json!({"room_types": ["m.space"]}), vec![&space]),
        (
            json!({"room_types": [null, "m.space"], "not_room_types": ["m.space"]}),
            vec![&plain, &direct, &secret, &bobs],
        ),
        (json!({"room_name_like": "den"}), vec![&plain]),
        (json!({"tags": ["m.favourite", "u.x"]}), vec![&plain]),
        (json!({"not_tags": ["m.favourite"], "is_invite": false}), vec![&direct, &secret, &space]),
        (json!({"spaces": [space]}), vec![&plain]),
        (json!({"spaces": [bobs]}), vec![]),
    ];
    for (filters, expected) in cases {
        let ask = json!({"timeline_limit": 1, "required_state": [], "filters": filters});
        let answer = world.slide("alice", with(&Value::Null, ask)).await;
        assert_eq!(rooms(&answer), sorted(&expected), "{filters}");
        assert_eq!(answer["lists"]["a"]["count"], expected.len(), "{filters}");
    }
    // A trait that changes is noticed.
    let ask = json!({"timeline_limit": 1, "required_state": [], "filters": {"is_encrypted": true}});
    world.set("alice", &plain, "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    assert_eq!(rooms(&world.slide("alice", with(&Value::Null, ask)).await), sorted(&[&plain, &secret]));
}

#[tokio::test]
async fn messages_to_a_device_go_when_their_token_comes_back() {
    let world = World::new(false).await;
    for n in 1..=5 {
        world.to_device("alice", "D", n).await;
    }
    let ask = |pos: &Value, since: &Value| {
        let mut body = json!({"extensions": {"to_device": {"enabled": true, "limit": 2}}});
        if let Some(pos) = pos.as_str() {
            body["pos"] = pos.into();
        }
        if let Some(since) = since.as_str() {
            body["extensions"]["to_device"]["since"] = since.into();
        }
        world.slide("alice", body)
    };
    let numbers = |answer: &Value| -> Vec<u64> {
        let events = answer["extensions"]["to_device"]["events"].as_array().unwrap();
        events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
    };
    let first = ask(&Value::Null, &Value::Null).await;
    assert_eq!(numbers(&first), [1, 2]);
    let second = ask(&first["pos"], &Value::Null).await;
    assert_eq!(numbers(&second), [1, 2], "nothing was acknowledged");
    let next = first["extensions"]["to_device"]["next_batch"].clone();
    let third = ask(&second["pos"], &next).await;
    assert_eq!(numbers(&third), [3, 4]);
    let last = ask(&third["pos"], &third["extensions"]["to_device"]["next_batch"]).await;
    assert_eq!(numbers(&last), [5]);
    // What is done with goes some time after; it has gone when something else has been written.
    world.to_device("alice", "D", 6).await;
    let from_future = ask(&last["pos"], &json!("s999999")).await;
    assert_eq!(numbers(&from_future), [5, 6]);
}

#[tokio::test]
async fn keys_are_told_with_an_explicit_zero() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let ask = |pos: &Value| extended(pos, json!({"e2ee": {"enabled": true}}));
    let first = world.slide("alice", ask(&Value::Null)).await;
    let keys = &first["extensions"]["e2ee"];
    assert_eq!(keys["device_one_time_keys_count"], json!({"signed_curve25519": 0}));
    assert_eq!(keys["device_unused_fallback_key_types"], json!([]));
    world.join("bob", &room).await.unwrap();
    let next = world.slide("alice", ask(&first["pos"])).await;
    assert_eq!(next["extensions"]["e2ee"]["device_lists"]["changed"], json!(["@bob:a.org"]));
    // What comes while the extension is off is told when it is on again.
    let off = world.slide("alice", list(&next["pos"], 9)).await;
    world.leave("bob", &room).await.unwrap();
    let off = world.slide("alice", list(&off["pos"], 9)).await;
    let on = world.slide("alice", ask(&off["pos"])).await;
    assert_eq!(on["extensions"]["e2ee"]["device_lists"]["left"], json!(["@bob:a.org"]));
}

#[tokio::test]
async fn account_data_follows_its_rooms() {
    let world = World::new(false).await;
    let (room, other) = (world.room("alice").await, world.room("alice").await);
    let ask = |pos: &Value, last| {
        let mut body = list(pos, last);
        body["extensions"] = json!({"account_data": {"enabled": true}});
        body
    };
    world.set_data("alice", None, "m.x", json!({"n": 1})).await;
    world.set_data("alice", Some(&room), "m.tag", json!({"tags": {"a": {}}})).await;
    let first = world.slide("alice", ask(&Value::Null, 0)).await;
    let data = &first["extensions"]["account_data"];
    assert_eq!(words(&data["global"]), ["m.push_rules", "m.x"]);
    assert_eq!(data["rooms"], Value::Null, "{other} has none, {room} is outside");
    world.set_data("alice", Some(&room), "m.tag", json!({"tags": {"b": {}}})).await;
    world.set_data("alice", None, "m.x", json!({"n": 2})).await;
    let next = world.slide("alice", ask(&first["pos"], 0)).await;
    assert_eq!(next["extensions"]["account_data"]["global"][0]["content"]["n"], 2);
    let wide = world.slide("alice", ask(&next["pos"], 9)).await;
    assert_eq!(
        wide["extensions"]["account_data"]["rooms"][room.as_str()][0]["content"]["tags"],
        json!({"b": {}})
    );
    world.set_data("alice", Some(&room), "m.tag", json!({"tags": {"c": {}}})).await;
    let off = world.slide("alice", list(&wide["pos"], 9)).await;
    let on = world.slide("alice", ask(&off["pos"], 9)).await;
    assert_eq!(
        on["extensions"]["account_data"]["rooms"][room.as_str()][0]["content"]["tags"],
        json!({"c": {}})
    );
}

#[tokio::test]
async fn receipts_and_typing_come_with_their_rooms() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let old = world.say("alice", &room, "old").await;
    world.read("bob", &room, &old, Thread::Unthreaded).await;
    world.read("alice", &room, &old, Thread::Unthreaded).await;
    for n in 0..5 {
        world.say("alice", &room, &n.to_string()).await;
    }
    let ask =
        |pos: &Value| extended(pos, json!({"receipts": {"enabled": true}, "typing": {"enabled": true}}));
    let first = world.slide("alice", ask(&Value::Null)).await;
    let receipts =
        |answer: &Value| answer["extensions"]["receipts"]["rooms"][room.as_str()]["content"].clone();
    let readers = receipts(&first)[old.as_str()]["m.read"].clone();
    let readers: Vec<&String> = readers.as_object().unwrap().keys().collect();
    assert_eq!(readers, ["@alice:a.org"], "of what is not in the timeline only the user's own");
    let new = world.say("alice", &room, "new").await;
    world.read("bob", &room, &new, Thread::Unthreaded).await;
    world.ephemeral.set_typing(&room, &user("bob"), Some(None)).await.unwrap();
    let next = world.slide("alice", ask(&first["pos"])).await;
    assert_ne!(receipts(&next)[new.as_str()]["m.read"]["@bob:a.org"], Value::Null);
    let typing = |answer: &Value| answer["extensions"]["typing"]["rooms"][room.as_str()]["content"].clone();
    assert_eq!(typing(&next), json!({"user_ids": ["@bob:a.org"]}));
    world.ephemeral.set_typing(&room, &user("bob"), None).await.unwrap();
    let none = world.slide("alice", list(&next["pos"], 0)).await;
    let last = world.slide("alice", ask(&none["pos"])).await;
    assert_eq!(typing(&last), json!({"user_ids": []}), "even if the extension was off");
}

#[tokio::test]
async fn a_room_that_cannot_be_rendered_comes_when_it_can() {
    let world = World::new(false).await;
    let (room, sound) = (world.room("alice").await, world.room("alice").await);
    let first = world.slide("alice", list(&Value::Null, 9)).await;
    let event = world.say("alice", &room, "lost?").await;
    world.say("alice", &sound, "fine").await;
    let (world, whole) = world.rewrite(&place_of(&event), b"damaged").await;
    let next = world.slide("alice", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&next), sorted(&[&sound]), "one room holds up no other");
    let still = world.slide("alice", list(&next["pos"], 9)).await;
    assert_eq!(rooms(&still), [""; 0]);
    let (world, _) = world.rewrite(&place_of(&event), &whole).await;
    let healed = world.slide("alice", list(&still["pos"], 9)).await;
    assert_eq!(words(&of(&healed, &room)["timeline"]), ["lost?"]);
}

#[tokio::test]
async fn the_final_shape_tells_of_state_that_is_gone_and_counts_nothing() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    world.say("bob", &room, "x").await;
    let ask = json!({"range": [0, 9], "timeline_limit": 1, "required_state": {"include": [{}]}});
    let answer =
        world.try_slide(("alice", "D"), SlidingShape::Final, with(&Value::Null, ask.clone())).await.unwrap();
    let found = of(&answer, &room);
    assert_eq!((&found["notification_count"], &found["lists"]), (&Value::Null, &json!(["a"])));
    let answer = world.slide("alice", with(&Value::Null, ask)).await;
    let found = of(&answer, &room);
    assert_eq!((&found["notification_count"], &found["lists"]), (&json!(1), &Value::Null));
    assert_eq!(found["heroes"][0]["user_id"], "@bob:a.org");
    assert_eq!(found["heroes"][0]["displayname"], "bob");
}

#[tokio::test]
async fn a_request_waits_for_what_it_wants() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.slide("alice", list(&Value::Null, 9)).await;
    let mut body = list(&first["pos"], 9);
    body["timeout"] = 60_000.into();
    let (answer, _) = tokio::join!(world.slide("alice", body), world.say("alice", &room, "now"));
    assert_eq!(words(&of(&answer, &room)["timeline"]), ["now"]);
    assert_eq!(text(&answer["txn_id"]), None);
}
