//! The verbs of rooms over HTTP.

use std::sync::Arc;

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    account::{NewSession, NewUser, Registration},
    http::{App, Routes, client, client::testing::Server, tests::services},
};

/// One user of a server.
struct Client {
    router: Router,
    token: String,
}

/// A server with these users, each on one device.
async fn clients(names: &[&str]) -> Vec<Client> {
    let mut services = services().await;
    services.gate = Arc::new(services.accounts.clone());
    let app = App::new(services);
    let mut routes = Routes::default();
    client::room::routes(&mut routes);
    client::profile::routes(&mut routes);
    let router = routes.into_router(app.clone());
    let mut clients = Vec::new();
    for name in names {
        let new = NewUser { username: Some((*name).into()), password: Some("secret".into()), admin: false };
        let user_id = app.accounts.create_user(new).await.unwrap();
        let session = NewSession {
            user_id,
            device_id: Some("D".into()),
            display_name: None,
            refreshes: false,
            client: None,
        };
        let token = app.accounts.start_session(session).await.unwrap().access_token;
        clients.push(Client { router: router.clone(), token });
    }
    clients
}

impl Client {
    /// Sends `METHOD PATH` (without the part that all paths share) and gives status and body.
    async fn ask(&self, request: &str, body: Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').unwrap();
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/_matrix/client/v3{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ok(&self, request: &str, body: Value) -> Value {
        let (status, found) = self.ask(request, body).await;
        assert_eq!(status, 200, "{request}: {found}");
        found
    }

    async fn refused(&self, request: &str, body: Value, expected: (u16, &str)) {
        let (status, found) = self.ask(request, body).await;
        assert_eq!((status, found["errcode"].as_str().unwrap_or_default()), expected, "{request}: {found}");
    }
}

#[tokio::test]
async fn a_room_from_creation_to_upgrade() {
    let [alice, bob]: [Client; 2] = clients(&["alice", "bob"]).await.try_into().ok().unwrap();
    let wanted = json!({"preset": "public_chat", "name": "N", "room_alias_name": "home",
        "initial_state": [{"type": "org.x", "content": {"a": 1}}], "visibility": "public",
        "creation_content": {"m.federate": false}, "power_level_content_override": {"ban": 51}});
    let room = alice.ok("POST /createRoom", wanted.clone()).await["room_id"].as_str().unwrap().to_owned();
    alice.refused("POST /createRoom", wanted, (400, "M_ROOM_IN_USE")).await;
    alice
        .refused("POST /createRoom", json!({"room_version": "9x"}), (400, "M_UNSUPPORTED_ROOM_VERSION"))
        .await;
    let at = |rest: &str| format!("/rooms/{room}{rest}");
    let get = |rest: &str| format!("GET {}", at(rest));
    assert_eq!(alice.ok(&get("/state/m.room.name"), Value::Null).await, json!({"name": "N"}));
    assert_eq!(alice.ok(&get("/state/m.room.name/"), Value::Null).await, json!({"name": "N"}));
    assert_eq!(alice.ok(&get("/state/m.room.power_levels/"), Value::Null).await["ban"], 51);
    let event = alice.ok(&get("/state/org.x/?format=event"), Value::Null).await;
    assert_eq!((&event["content"]["a"], &event["room_id"]), (&json!(1), &json!(room)));
    assert!(alice.ok(&get("/state"), Value::Null).await.as_array().unwrap().len() >= 8);
    bob.refused(&get("/state"), Value::Null, (403, "M_FORBIDDEN")).await;
    alice.refused(&get("/state/org.y/k"), Value::Null, (404, "M_NOT_FOUND")).await;

    assert_eq!(bob.ok("POST /join/%23home:localhost", json!({})).await["room_id"], room.as_str());
    assert_eq!(bob.ok("GET /joined_rooms", Value::Null).await, json!({"joined_rooms": [room]}));
    let put = |rest: &str| format!("PUT {}", at(rest));
    let sent = bob.ok(&put("/send/m.room.message/t1"), json!({"body": "hi"})).await;
    assert_eq!(bob.ok(&put("/send/m.room.message/t1"), json!({"body": "hi"})).await, sent);
    bob.refused(&put("/state/m.room.name"), json!({"name": "B"}), (403, "M_FORBIDDEN")).await;
    let big = json!({"body": "x".repeat(66_000)});
    bob.refused(&put("/send/m.room.message/t2"), big, (413, "M_TOO_LARGE")).await;
    alice.ok(&put("/state/m.room.topic/"), json!({"topic": "T"})).await;
    let redact = format!("/redact/{}/t3", sent["event_id"].as_str().unwrap());
    alice.ok(&put(&redact), json!({"reason": "r"})).await;
    bob.ok("PUT /profile/@bob:localhost/displayname", json!({"displayname": "Bob"})).await;
    let member = alice.ok(&get("/state/m.room.member/@bob:localhost"), Value::Null).await;
    assert_eq!(member["displayname"], "Bob");

    let alias = "/directory/room/%23more:localhost";
    bob.ok(&format!("PUT {alias}"), json!({ "room_id": room })).await;
    bob.refused(&format!("PUT {alias}"), json!({ "room_id": room }), (409, "M_UNKNOWN")).await;
    assert_eq!(alice.ok(&format!("GET {alias}"), Value::Null).await["servers"], json!(["localhost"]));
    let aliases = alice.ok(&get("/aliases"), Value::Null).await;
    assert_eq!(aliases["aliases"].as_array().unwrap().len(), 2);
    bob.ok(&format!("DELETE {alias}"), Value::Null).await;
    alice.refused(&format!("GET {alias}"), Value::Null, (404, "M_NOT_FOUND")).await;
    let listed = format!("/directory/list/room/{room}");
    assert_eq!(bob.ok(&format!("GET {listed}"), Value::Null).await, json!({"visibility": "public"}));
    bob.refused(&format!("PUT {listed}"), json!({"visibility": "private"}), (403, "M_FORBIDDEN")).await;

    let post = |rest: &str| format!("POST {}", at(rest));
    let bob_id = json!({"user_id": "@bob:localhost", "reason": "why"});
    bob.refused(&post("/forget"), json!({}), (400, "M_UNKNOWN")).await;
    alice.ok(&post("/kick"), bob_id.clone()).await;
    assert_eq!(bob.ok(&get("/state/m.room.topic"), Value::Null).await, json!({"topic": "T"}));
    alice.ok(&post("/ban"), bob_id.clone()).await;
    bob.refused(&post("/join"), json!({}), (403, "M_FORBIDDEN")).await;
    alice.ok(&post("/unban"), bob_id.clone()).await;
    alice.ok(&post("/invite"), bob_id).await;
    bob.ok(&post("/join"), json!({})).await;
    bob.ok(&post("/leave"), json!({})).await;
    bob.ok(&post("/forget"), json!({})).await;
    alice.refused(&post("/invite"), json!({"user_id": "@x:other"}), (403, "M_FORBIDDEN")).await;
    let third = json!({"id_server": "i", "id_access_token": "t", "medium": "email", "address": "a@b"});
    alice.refused(&post("/invite"), third, (403, "M_THREEPID_DENIED")).await;
    bob.refused("POST /knock/!none:localhost", json!({}), (404, "M_NOT_FOUND")).await;
    let new = alice.ok(&post("/upgrade"), json!({"new_version": "11"})).await;
    assert_eq!(
        bob.ok("GET /directory/room/%23home:localhost", Value::Null).await["room_id"],
        new["replacement_room"]
    );
}

/// Row 2.14 of the list of known vulnerabilities (CVE-2024-6303: anybody could move any alias, and who had `#admins` was
/// an administrator): an alias is moved and removed by who made it and by the powerful, and gives no power.
#[tokio::test]
async fn row_2_14_aliases_are_nobody_elses_and_give_no_power() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let public = json!({ "preset": "public_chat" });
    let theirs = server.met(&alice, "POST /createRoom", public.clone()).await["room_id"].clone();
    let own = server.met(&bob, "POST /createRoom", public).await["room_id"].clone();
    server.met(&bob, &format!("POST /join/{}", theirs.as_str().unwrap()), json!({})).await;
    let alias = |verb: &str| format!("{verb} /directory/room/%23admins:localhost");
    server.check(&alice, &alias("PUT"), (json!({ "room_id": theirs }), json!({}))).await;
    server.check(&bob, &alias("DELETE"), (Value::Null, json!("403 M_FORBIDDEN"))).await;
    let (status, _) = server.ask(&bob, &alias("PUT"), json!({ "room_id": own })).await;
    assert_eq!(status, 409);
    let found = server.met(&bob, &alias("GET"), Value::Null).await;
    assert_eq!(found["room_id"], theirs);
    server.check(&alice, &alias("DELETE"), (Value::Null, json!({}))).await;
    server.check(&bob, &alias("PUT"), (json!({ "room_id": own }), json!({}))).await;
    for request in ["GET /_synapse/admin/v1/event_reports", "GET /_synapse/admin/v1/registration_tokens"] {
        server.check(&bob, request, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    }
}
