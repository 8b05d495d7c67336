//! What administrators are told of rooms, and do there.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

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
