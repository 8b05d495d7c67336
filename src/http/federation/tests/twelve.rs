//! What room version 12 asks of a server, by the cases that the other servers are tested with: section 8 (a) of the
//! list of known vulnerabilities. Those of state resolution are in `dag::resolve`.
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/>

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::{Server, via};
use crate::http::Wire;

const BAD: [&str; 3] = ["400 M_BAD_JSON", "400 M_INVALID_PARAM", "400 M_INVALID_ROOM_STATE"];

async fn alone() -> (Server, [String; 3]) {
    let server = Server::new("a.org", &Wire::default()).await;
    let tokens =
        [server.register("alice").await, server.register("bob").await, server.register("carol").await];
    (server, tokens)
}

impl Server {
    async fn content(&self, token: &str, room: &OwnedRoomId, event_type: &str) -> Value {
        self.met(token, &format!("GET /rooms/{room}/state/{event_type}/"), Value::Null).await
    }

    async fn sets(&self, token: &str, room: &OwnedRoomId, event_type: &str, content: Value) -> Value {
        self.met(token, &format!("PUT /rooms/{room}/state/{event_type}/"), content).await
    }
}

#[track_caller]
fn assert_bad(answer: &Value, what: &str) {
    assert!(BAD.iter().any(|bad| answer == bad), "{what}: {answer}");
}

#[tokio::test]
async fn row_8_a_creators_are_not_among_the_levels() {
    let (a, [alice, bob, _]) = alone().await;
    let room = a.room(&alice, "12", json!({ "preset": "public_chat" })).await;
    let levels = a.content(&alice, &room, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({}));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);
    let own = json!({ "users": { "@alice:a.org": 100 } });
    assert_bad(&a.sets(&alice, &room, "m.room.power_levels", own.clone()).await, "the creator's own level");
    let most = 9_007_199_254_740_991_i64;
    let beyond = json!({ "users": { "@bob:a.org": most + 1 } });
    assert_bad(&a.sets(&alice, &room, "m.room.power_levels", beyond).await, "beyond canonical JSON");

    let invited = json!({
        "room_version": "12", "invite": ["@bob:a.org"],
        "power_level_content_override": { "users": { "@bob:a.org": 100 } },
    });
    let made = a.met(&alice, "POST /createRoom", invited).await;
    let made = OwnedRoomId::try_from(made["room_id"].as_str().unwrap()).unwrap();
    let levels = a.content(&alice, &made, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({ "@bob:a.org": 100 }));
    let body = json!({ "room_version": "12", "power_level_content_override": own });
    assert_bad(&a.met(&alice, "POST /createRoom", body).await, "the creator's level from the beginning");

    // Nobody is above a creator, and a creator is above all.
    a.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
    for level in [100, 101, most] {
        let levels = json!({ "users": { "@bob:a.org": level } });
        let set = a.sets(&alice, &room, "m.room.power_levels", levels).await;
        assert!(set["event_id"].is_string(), "{set}");
        let kick = format!("POST /rooms/{room}/kick");
        let answer = a.met(&bob, &kick, json!({ "user_id": "@alice:a.org" })).await;
        assert_eq!(answer, json!("403 M_FORBIDDEN"), "by {level}");
        let answer = a.met(&alice, &kick, json!({ "user_id": "@bob:a.org" })).await;
        assert_eq!(answer, json!({}), "at {level}");
        a.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
    }
}

#[tokio::test]
async fn row_8_a_additional_creators_are_users_and_creators() {
    let (a, [alice, bob, _]) = alone().await;
    for (creators, is_good) in [
        (json!("not-an-array"), false),
        (json!(["@foo:example.com", 42]), false),
        (json!(["@foo:example.com", "not-a-user-id"]), false),
        (json!(["@invalid:dom$ain$.com"]), false),
        (json!(["@foo:example.com", "@bar:baz.code"]), true),
    ] {
        let content = json!({ "additional_creators": creators });
        let body = json!({ "room_version": "12", "preset": "public_chat", "creation_content": content });
        let answer = a.met(&alice, "POST /createRoom", body).await;
        match is_good {
            true => assert!(answer["room_id"].is_string(), "{creators}: {answer}"),
            false => assert_bad(&answer, &creators.to_string()),
        }
    }
    let content = json!({ "additional_creators": ["@bob:a.org"] });
    let extra = json!({ "preset": "public_chat", "creation_content": content });
    let room = a.room(&alice, "12", extra).await;
    a.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
    let kick = format!("POST /rooms/{room}/kick");
    assert_eq!(a.met(&alice, &kick, json!({ "user_id": "@bob:a.org" })).await, json!("403 M_FORBIDDEN"));
    let named = a.sets(&bob, &room, "m.room.name", json!({ "name": "Bob's" })).await;
    assert!(named["event_id"].is_string(), "{named}");
    let level = json!({ "users": { "@bob:a.org": 100 } });
    assert_bad(&a.sets(&alice, &room, "m.room.power_levels", level).await, "a level of a creator");

    // Whoever is trusted from the beginning is one, beside those who are named.
    let creators = |create: Value| {
        let mut creators: Vec<String> =
            serde_json::from_value(create["additional_creators"].clone()).unwrap();
        creators.sort_unstable();
        creators
    };
    for (named, expected) in [
        (json!({}), vec!["@bob:a.org"]),
        (json!({ "additional_creators": ["@carol:a.org"] }), vec!["@bob:a.org", "@carol:a.org"]),
    ] {
        let extra = json!({
            "preset": "trusted_private_chat", "is_direct": true, "invite": ["@bob:a.org"],
            "creation_content": named,
        });
        let room = a.room(&alice, "12", extra).await;
        assert_eq!(creators(a.content(&alice, &room, "m.room.create").await), expected);
    }
}

#[tokio::test]
async fn row_8_a_who_upgrades_a_room_is_its_creator() {
    let (a, [alice, bob, carol]) = alone().await;
    let users = |of: &[(&str, i64)]| -> Value {
        of.iter().map(|(user, level)| (format!("@{user}:a.org"), Value::from(*level))).collect()
    };
    for (version, before, by, creators, after) in [
        ("11", users(&[("alice", 100), ("bob", 100)]), &bob, None, users(&[("alice", 100)])),
        ("11", users(&[("bob", 100)]), &bob, None, users(&[])),
        ("11", users(&[("bob", 100), ("carol", 100)]), &bob, None, users(&[("carol", 100)])),
        ("12", users(&[("bob", 150)]), &bob, Some("@carol:a.org"), users(&[])),
        ("12", users(&[("bob", 150), ("carol", 50)]), &bob, Some("@carol:a.org"), users(&[])),
        ("11", users(&[("alice", 100), ("bob", 100)]), &alice, Some("@bob:a.org"), users(&[])),
        (
            "11",
            users(&[("alice", 100), ("bob", 100), ("carol", 50)]),
            &alice,
            Some("@bob:a.org"),
            users(&[("carol", 50)]),
        ),
    ] {
        let what = format!("{version} {before} {creators:?}");
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        for token in [&bob, &carol] {
            a.met(token, &format!("POST /rooms/{room}/join"), json!({})).await;
        }
        let set = a.sets(&alice, &room, "m.room.power_levels", json!({ "users": before })).await;
        assert!(set["event_id"].is_string(), "{what}: {set}");
        let mut body = json!({ "new_version": "12" });
        if let Some(creators) = creators {
            body["additional_creators"] = json!([creators]);
        }
        let upgraded = a.met(by, &format!("POST /rooms/{room}/upgrade"), body).await;
        let new = OwnedRoomId::try_from(upgraded["replacement_room"].as_str().unwrap_or("?"));
        let new = new.unwrap_or_else(|_| panic!("{what}: {upgraded}"));
        let create = a.content(by, &new, "m.room.create").await;
        let named = creators.map_or(Value::Null, |creator| json!([creator]));
        assert_eq!(
            (&create["room_version"], &create["additional_creators"]),
            (&json!("12"), &named),
            "{what}"
        );
        assert_eq!(create["predecessor"]["room_id"], room.as_str(), "{what}");
        assert_eq!(a.content(by, &new, "m.room.power_levels").await["users"], after, "{what}");
    }
}

#[tokio::test]
async fn row_8_a_a_room_is_named_by_its_create_event() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    for version in ["11", "12"] {
        let room = a.room(&alice, version, json!({})).await;
        let again = json!({ "room_version": version, "entropy": 100 });
        assert_bad(&a.sets(&alice, &room, "m.room.create", again).await, version);
    }
    let room = a.room(&alice, "12", json!({ "preset": "public_chat" })).await;
    let joined = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    assert_eq!(joined, json!({ "room_id": room }));
    let create = room.as_str().replacen('!', "$", 1);
    for (server, token) in [(&a, &alice), (&b, &bob)] {
        let row = server.app.history.room(&room).await.unwrap().unwrap();
        assert_eq!(row.create.as_str(), create);
        let state = server.app.history.current_state(&room).await.unwrap().unwrap();
        for event in server.app.history.state_events(state, None).await.unwrap() {
            assert!(event.pdu.auth_events().iter().all(|id| id.as_str() != create), "{}", event.pdu.json());
        }
        let stored = server.app.history.event(&row.create).await.unwrap().unwrap();
        assert!(!stored.pdu.text().contains("\"room_id\""), "{}", stored.pdu.text());
        // Clients are given it all the same.
        let state = server.met(token, &format!("GET /rooms/{room}/state"), Value::Null).await;
        let events = state.as_array().unwrap();
        let told = events.iter().find(|event| event["type"] == "m.room.create").unwrap();
        assert_eq!(told["room_id"], room.as_str());
    }
    let event = a.met(&alice, &format!("GET /rooms/{room}/event/{create}"), Value::Null).await;
    assert_eq!((&event["room_id"], &event["type"]), (&json!(room), &json!("m.room.create")));
    let messages = a.met(&alice, &format!("GET /rooms/{room}/messages?dir=b&limit=100"), Value::Null).await;
    let first = messages["chunk"].as_array().unwrap().last().unwrap();
    assert_eq!((&first["room_id"], &first["type"]), (&json!(room), &json!("m.room.create")));
}
