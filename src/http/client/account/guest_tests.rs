//! Guests: how they come in, what they may do, and how they become something else.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    account::{Registration, Settings, Shown},
    config::Config,
    http::{
        client::testing::Server,
        tests::{services, services_at},
    },
    types::ManualClock,
};

const GUEST: &str = "POST /register?kind=guest";

async fn server() -> Server {
    let settings = Settings { registration: Registration::Open, guests: true, ..Settings::default() };
    Server::under(services().await, settings)
}

async fn guest(server: &Server) -> (String, String) {
    let made = server.met("", GUEST, json!({})).await;
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    (text("user_id"), text("access_token"))
}

/// A room of alice's in which guests are welcome.
async fn welcome(server: &Server, alice: &str) -> String {
    let access = json!({ "type": "m.room.guest_access", "content": { "guest_access": "can_join" } });
    let room = json!({ "preset": "public_chat", "initial_state": [access] });
    server.met(alice, "POST /createRoom", room).await["room_id"].as_str().unwrap().to_owned()
}

async fn membership(server: &Server, alice: &str, room: &str, user: &str) -> Value {
    let request = format!("GET /rooms/{room}/state/m.room.member/{user}");
    server.met(alice, &request, Value::Null).await["membership"].clone()
}

#[tokio::test]
async fn guests_are_let_in_only_if_the_operator_wants_it() {
    let closed = Server::new(Registration::Open).await;
    closed.check("", GUEST, (json!({}), json!("403 M_GUEST_ACCESS_FORBIDDEN"))).await;
    let server = server().await;
    let ignored = json!({ "username": "alice", "password": "x", "device_id": "MINE", "inhibit_login": true,
        "initial_device_display_name": "Kiosk" });
    let made = server.met("", GUEST, ignored).await;
    assert_ne!(made["user_id"], "@alice:localhost");
    assert_ne!(made["device_id"], "MINE", "the server names the device");
    let token = made["access_token"].as_str().unwrap();
    let me = server.met(token, "GET /account/whoami", Value::Null).await;
    assert_eq!((&me["is_guest"], &me["user_id"]), (&json!(true), &made["user_id"]));
    let devices = server.met(token, "GET /devices", Value::Null).await;
    assert_eq!(devices["devices"][0]["display_name"], "Kiosk");
    let alice = server.register("alice").await;
    assert_ne!(server.met(&alice, "GET /account/whoami", Value::Null).await["is_guest"], true);
    server.check("", "POST /register?kind=ghost", (json!({}), json!("400 M_INVALID_PARAM"))).await;
}

#[tokio::test]
async fn who_stays_away_for_long_is_no_guest_any_more() {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let settings = Settings { registration: Registration::Open, guests: true, ..Settings::default() };
    let server = Server::under(services_at(Config::default(), clock.clone()).await, settings);
    let ((away, gone), (stays, there)) = (guest(&server).await, guest(&server).await);
    let alice = server.register("alice").await;
    let room = welcome(&server, &alice).await;
    for token in [&gone, &there] {
        server.met(token, &format!("POST /rooms/{room}/join"), json!({})).await;
    }
    for _ in 0..4 {
        server.app().purge.tend().await.unwrap();
        assert_eq!(membership(&server, &alice, &room, &away).await, "join");
        clock.advance(Duration::from_secs(10 * 24 * 60 * 60));
        assert!(server.met(&there, "GET /sync", Value::Null).await["next_batch"].is_string());
    }
    server.app().purge.tend().await.unwrap();
    assert_eq!(membership(&server, &alice, &room, &away).await, "leave");
    assert_eq!(membership(&server, &alice, &room, &stays).await, "join");
    server.check(&gone, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    assert_eq!(server.met(&there, "GET /account/whoami", Value::Null).await["user_id"], json!(stays));
    assert_eq!(server.met(&alice, "GET /account/whoami", Value::Null).await["user_id"], "@alice:localhost");
}

#[tokio::test]
async fn guests_may_do_little() {
    let server = server().await;
    let (id, token) = guest(&server).await;
    let refused = "403 M_GUEST_ACCESS_FORBIDDEN";
    for (request, body) in [
        ("POST /createRoom".to_owned(), json!({})),
        ("GET /joined_rooms".to_owned(), Value::Null),
        (format!("PUT /profile/{id}/avatar_url"), json!({ "avatar_url": "mxc://a/b" })),
        (format!("POST /user/{id}/filter"), json!({})),
        ("POST /logout/all".to_owned(), json!({})),
        ("POST /account/deactivate".to_owned(), json!({})),
        ("POST /_matrix/client/v1/login/get_token".to_owned(), json!({})),
    ] {
        server.check(&token, &request, (body, json!(refused))).await;
    }
    let name = json!({ "displayname": "Somebody" });
    server.check(&token, &format!("PUT /profile/{id}/displayname"), (name, json!({}))).await;
    assert!(server.met(&token, "GET /sync", Value::Null).await["next_batch"].is_string());
    server.met(&token, "POST /keys/query", json!({ "device_keys": {} })).await;
    for root in ["v1", "unstable/org.matrix.msc4140"] {
        let delayed = format!("GET /_matrix/client/{root}/delayed_events");
        server.check(&token, &delayed, (Value::Null, json!({ "delayed_events": [] }))).await;
    }
}

#[tokio::test]
async fn guests_come_into_rooms_that_want_them_and_have_to_go_again() {
    let server = server().await;
    let alice = server.register("alice").await;
    let (id, token) = guest(&server).await;
    let refused = json!("403 M_GUEST_ACCESS_FORBIDDEN");
    let closed = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let closed = closed["room_id"].as_str().unwrap();
    server.check(&token, &format!("POST /rooms/{closed}/join"), (json!({}), refused.clone())).await;
    server.check(&token, &format!("POST /join/{closed}"), (json!({}), refused.clone())).await;
    let own = format!("PUT /rooms/{closed}/state/m.room.member/{id}");
    server.check(&token, &own, (json!({ "membership": "join" }), refused.clone())).await;
    server.met(&alice, &format!("POST /rooms/{closed}/invite"), json!({ "user_id": id })).await;
    server.check(&token, &format!("POST /rooms/{closed}/join"), (json!({}), refused.clone())).await;

    let room = welcome(&server, &alice).await;
    server.met(&token, &format!("POST /rooms/{room}/join"), json!({})).await;
    let said = server.met(&token, &format!("PUT /rooms/{room}/send/m.x/1"), json!({ "a": 1 })).await;
    assert!(said["event_id"].is_string(), "{said}");
    let later = format!("PUT /_matrix/client/unstable/org.matrix.msc4140/rooms/{room}/delayed_event/m.x/2");
    let later = server.met(&token, &later, json!({ "delay_ms": 60_000, "content": { "a": 2 } })).await;
    let id_of_it = later["delay_id"].as_str().unwrap();
    let send = format!("POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{id_of_it}/send");
    server.check(&token, &send, (json!({}), json!({}))).await;
    let (bob, room_of_both) = (server.register("bob").await, room.clone());
    server.met(&bob, &format!("POST /join/{room_of_both}"), json!({})).await;
    let access = format!("PUT /rooms/{room}/state/m.room.guest_access/");
    server.met(&alice, &access, json!({ "guest_access": "can_join", "again": true })).await;
    server.app().rooms.look_at_guests().await.unwrap();
    assert_eq!(membership(&server, &alice, &room, &id).await, "join", "they are still wanted");
    server.met(&alice, &access, json!({ "guest_access": "forbidden" })).await;
    server.app().rooms.look_at_guests().await.unwrap();
    assert_eq!(membership(&server, &alice, &room, &id).await, "leave");
    assert_eq!(membership(&server, &alice, &room, "@bob:localhost").await, "join");
    server.check(&token, &format!("POST /rooms/{room}/join"), (json!({}), refused)).await;
}

#[tokio::test]
async fn a_guest_becomes_an_ordinary_user() {
    let server = server().await;
    let (id, token) = guest(&server).await;
    let name = id.split([':', '@']).nth(1).unwrap();
    let upgrade = |name: Value, token: &str| {
        json!({ "username": name, "password": "secret", "guest_access_token": token,
            "auth": { "type": "m.login.dummy" } })
    };
    let request = "POST /register";
    let missing = (upgrade(Value::Null, &token), json!("400 M_MISSING_PARAM"));
    server.check("", request, missing).await;
    server.check("", request, (upgrade(json!("other"), &token), json!("403 M_FORBIDDEN"))).await;
    server.check("", request, (upgrade(json!(name), "made-up"), json!("401 M_UNKNOWN_TOKEN"))).await;
    let taken = json!({ "username": name, "auth": { "type": "m.login.dummy" } });
    server.check("", request, (taken, json!("400 M_USER_IN_USE"))).await;
    let other = guest(&server).await.1;
    server.check("", request, (upgrade(json!(name), &other), json!("403 M_FORBIDDEN"))).await;
    let ordinary = server.register("alice").await;
    let not_a_guest = (upgrade(json!("alice"), &ordinary), json!("403 M_FORBIDDEN"));
    server.check("", request, not_a_guest).await;
    let mut bad_device = upgrade(json!(name), &token);
    bad_device["device_id"] = json!("");
    server.check("", request, (bad_device, json!("400 M_INVALID_PARAM"))).await;
    let me = server.met(&token, "GET /account/whoami", Value::Null).await;
    assert_eq!(me["is_guest"], true, "nothing has happened yet");

    let made = server.met("", request, upgrade(json!(name), &token)).await;
    assert_eq!(made["user_id"], id.as_str());
    let new = made["access_token"].as_str().unwrap();
    assert_ne!(server.met(new, "GET /account/whoami", Value::Null).await["is_guest"], true);
    assert!(server.met(new, "POST /createRoom", json!({})).await["room_id"].is_string());
    server.check(&token, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    let login = json!({ "identifier": { "type": "m.id.user", "user": name } });
    assert_eq!(server.login(login).await["user_id"], id.as_str());
    server.check("", request, (upgrade(json!(name), new), json!("403 M_FORBIDDEN"))).await;
}

#[tokio::test]
async fn the_tokens_of_a_guest_end_with_the_guest() {
    let server = server().await;
    let (id, token) = guest(&server).await;
    let id = ruma::UserId::parse(id).unwrap();
    server.app().accounts.upgrade_guest(&id, Some("secret"), &Shown::default()).await.unwrap();
    server.check(&token, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
}
