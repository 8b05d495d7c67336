//! What administrators are told of rooms, and do there.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    http::{client::testing::Server, tests::services_over},
    store::{Db, memory::Memory},
    types::ManualClock,
};

/// A server with an administrator and `@alice`, who has a room; their tokens, and the room.
async fn scene() -> (Server, String, String, String) {
    let server = Server::new(Registration::Open).await;
    let (admin, alice) = (server.register("root").await, server.register("alice").await);
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    let made = server.met(&alice, "POST /createRoom", json!({ "name": "Garden" })).await;
    (server, admin, alice, made["room_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn administrators_look_at_every_room() {
    let (server, admin, alice, room) = scene().await;
    let other = server.met(&alice, "POST /createRoom", json!({ "name": "Cellar" })).await;
    for path in
        ["rooms", &format!("rooms/{room}"), &format!("rooms/{room}/members"), &format!("rooms/{room}/state")]
    {
        let request = format!("GET /_synapse/admin/v1/{path}");
        server.check(&alice, &request, (Value::Null, json!("403 M_FORBIDDEN"))).await;
        if path != "rooms" {
            let nowhere = request.replace(&room, "!nothing:localhost");
            server.check(&admin, &nowhere, (Value::Null, json!("404 M_NOT_FOUND"))).await;
        }
    }
    let get = async |path: &str| {
        server.met(&admin, &format!("GET /_synapse/admin/v1/rooms{path}"), Value::Null).await
    };
    let all = get("?limit=1").await;
    assert_eq!((&all["total_rooms"], &all["rooms"][0]["room_id"]), (&json!(2), &other["room_id"]), "{all}");
    let next = get(&format!("?limit=1&from={}", all["next_batch"])).await;
    assert_eq!((&next["rooms"][0]["name"], &next["next_batch"]), (&json!("Garden"), &Value::Null));
    assert_eq!(get("?search_term=gard").await["total_rooms"], 1);
    let told = get(&format!("/{room}")).await;
    assert_eq!(
        (&told["name"], &told["creator"], &told["joined_local_members"], &told["join_rules"]),
        (&json!("Garden"), &json!("@alice:localhost"), &json!(1), &json!("invite"))
    );
    let members = get(&format!("/{room}/members")).await;
    assert_eq!(members, json!({ "total": 1, "members": ["@alice:localhost"] }));
    let state = get(&format!("/{room}/state")).await;
    let named = |event: &&Value| event["type"] == "m.room.name";
    assert_eq!(state["state"].as_array().unwrap().iter().find(named).unwrap()["content"]["name"], "Garden");
}

#[tokio::test]
async fn somebody_else_is_made_powerful_where_a_user_of_ours_is() {
    for version in ["11", "12"] {
        let (server, admin, alice, _) = scene().await;
        let make = json!({ "room_version": version, "room_alias_name": "den", "preset": "private_chat" });
        let room = server.met(&alice, "POST /createRoom", make).await["room_id"].as_str().unwrap().to_owned();
        let request = "POST /_synapse/admin/v1/rooms/%23den:localhost/make_room_admin";
        server.check(&alice, request, (json!({}), json!("403 M_FORBIDDEN"))).await;
        server.check(&admin, request, (json!({}), json!({}))).await;
        server.met(&admin, &format!("POST /join/{room}"), json!({})).await;
        let rename = format!("PUT /rooms/{room}/state/m.room.name/");
        assert!(
            server.met(&admin, &rename, json!({ "name": "x" })).await["event_id"].is_string(),
            "{version}"
        );
        // Nobody of this server is left who could.
        for token in [&alice, &admin] {
            server.met(token, &format!("POST /rooms/{room}/leave"), json!({})).await;
        }
        let by_id = format!("POST /_synapse/admin/v1/rooms/{room}/make_room_admin");
        server.check(&admin, &by_id, (json!({}), json!("403 M_FORBIDDEN"))).await;
    }
}

#[tokio::test]
async fn users_are_put_into_rooms() {
    let (server, admin, alice, room) = scene().await;
    let bob = server.register("bob").await;
    let join = format!("POST /_synapse/admin/v1/join/{room}");
    let who = json!({ "user_id": "@bob:localhost" });
    server.check(&bob, &join, (who.clone(), json!("403 M_FORBIDDEN"))).await;
    server.check(&admin, &join, (json!({ "user_id": "@nobody:localhost" }), json!("404 M_NOT_FOUND"))).await;
    server.check(&admin, &join, (who.clone(), json!("403 M_FORBIDDEN"))).await;
    server.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@root:localhost" })).await;
    server.met(&admin, &format!("POST /join/{room}"), json!({})).await;
    server.check(&admin, &join, (who, json!({ "room_id": room }))).await;
    let joined = server.met(&bob, "GET /joined_rooms", Value::Null).await;
    assert_eq!(joined["joined_rooms"], json!([room]));
}

/// Whoever is answered may rely on it: those who are said to have left have left.
#[tokio::test]
async fn the_older_removal_answers_when_everybody_has_left() {
    let (server, admin, alice, _) = scene().await;
    let bob = server.register("bob").await;
    for (body, stays) in [
        (json!({}), false),
        (json!({ "purge": false }), true),
        (json!({ "new_room_user_id": "@root:localhost", "block": true }), false),
    ] {
        let wanted = json!({ "preset": "public_chat", "room_alias_name": "den" });
        let room = server.met(&alice, "POST /createRoom", wanted).await["room_id"].clone();
        let room = room.as_str().unwrap();
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        let delete = format!("DELETE /_synapse/admin/v1/rooms/{room}");
        let told = server.met(&admin, &delete, body.clone()).await;
        let mut kicked: Vec<&str> =
            told["kicked_users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap()).collect();
        kicked.sort_unstable();
        assert_eq!(kicked, ["@alice:localhost", "@bob:localhost"], "{body}: {told}");
        assert_eq!(told["failed_to_kick_users"], json!([]), "{body}");
        assert_eq!(told["local_aliases"], json!(["#den:localhost"]), "{body}");
        assert_eq!(told["new_room_id"].is_string(), body["new_room_user_id"].is_string(), "{told}");
        for token in [&alice, &bob] {
            let joined = server.met(token, "GET /joined_rooms", Value::Null).await.to_string();
            assert!(!joined.contains(room), "{body}: {joined}");
            let new = told["new_room_id"].as_str();
            assert!(new.is_none_or(|new| joined.contains(new)), "{body}: {joined}");
        }
        let known = server.app().history.room(room.try_into().unwrap()).await.unwrap().is_some();
        assert_eq!(known, stays, "{body}");
        server.met(&alice, "DELETE /directory/room/%23den:localhost", Value::Null).await;
        server.met(&admin, "DELETE /directory/room/%23den:localhost", Value::Null).await;
    }
    let again = server.met(&admin, "DELETE /_synapse/admin/v1/rooms/!none:localhost", json!({})).await;
    assert_eq!(again, "404 M_NOT_FOUND");
}

#[tokio::test]
async fn it_is_explained_what_stands_in_a_room() {
    let (server, admin, alice, room) = scene().await;
    let explain = |query: &str| format!("GET /_lockstep/admin/v1/rooms/{room}/explain?{query}");
    server.check(&alice, &explain("type=m.room.name"), (Value::Null, json!("403 M_FORBIDDEN"))).await;
    server.check(&admin, &explain("state_key="), (Value::Null, json!("400 M_INVALID_PARAM"))).await;
    let nowhere = explain("type=m.room.name").replace(&room, "!nothing:localhost");
    server.check(&admin, &nowhere, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let before = server.met(&admin, &explain("type=m.room.name"), Value::Null).await;
    let rename = format!("PUT /rooms/{room}/state/m.room.name/");
    let made = server.met(&alice, &rename, json!({ "name": "Yard" })).await;
    let told = server.met(&admin, &explain("type=m.room.name&state_key=&hidden=true"), Value::Null).await;
    assert_eq!(told["current"]["event_id"], made["event_id"], "{told}");
    assert_eq!(told["forks"], json!({ made["event_id"].as_str().unwrap(): made["event_id"] }));
    assert_eq!(
        (&told["others"], &told["earlier"][0]["event_id"]),
        (&json!([]), &before["current"]["event_id"])
    );
    let none = server.met(&admin, &explain("type=m.room.topic"), Value::Null).await;
    assert_eq!(none["current"], Value::Null);
}

#[tokio::test]
async fn policy_lists_bind_over_restarts() {
    let db = Db::new(Arc::new(Memory::new()));
    let start = async || {
        let mut config = Config::default();
        config.moderation.policy_lists = vec!["#bans:localhost".try_into().unwrap()];
        let services = services_over(config, Arc::new(ManualClock::at(0)), db.clone()).await;
        Server::over(services, Registration::Open)
    };
    let server = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let list = server.met(&alice, "POST /createRoom", json!({ "room_alias_name": "bans" })).await;
    let list = list["room_id"].as_str().unwrap();
    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    let rule = format!("PUT /rooms/{list}/state/m.policy.rule.room/1");
    server.met(&alice, &rule, json!({ "entity": room, "recommendation": "m.takedown" })).await;
    let join = format!("POST /join/{room}");
    server.check(&bob, &join, (json!({}), json!("403 M_FORBIDDEN"))).await;
    let again = start().await;
    again.check(&bob, &join, (json!({}), json!("403 M_FORBIDDEN"))).await;
    again.met(&alice, &rule, json!({})).await;
    again.check(&bob, &join, (json!({}), json!({ "room_id": room }))).await;
}
