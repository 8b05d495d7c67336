//! Locked and suspended users, and who may make them so.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

const LOCK: &str = "/_matrix/client/v1/admin/lock";
const SUSPEND: &str = "/_matrix/client/v1/admin/suspend";

/// A server with an administrator and `@alice`, and their tokens.
async fn server() -> (Server, String, String) {
    let server = Server::new(Registration::Open).await;
    let (admin, alice) = (server.register("root").await, server.register("alice").await);
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    (server, admin, alice)
}

#[tokio::test]
async fn only_administrators_moderate_and_not_each_other() {
    let (server, admin, alice) = server().await;
    let boss = server.register("boss").await;
    server
        .app()
        .accounts
        .change_user(ruma::user_id!("@boss:localhost"), |user| user.admin = true)
        .await
        .unwrap();
    for (path, field) in [(LOCK, "locked"), (SUSPEND, "suspended")] {
        for (token, user, expected) in [
            (&alice, "@root:localhost", json!("403 M_FORBIDDEN")),
            (&alice, "@nobody:localhost", json!("403 M_FORBIDDEN")),
            (&admin, "@alice:elsewhere", json!("400 M_INVALID_PARAM")),
            (&admin, "@nobody:localhost", json!("404 M_NOT_FOUND")),
            (&admin, "@root:localhost", json!("403 M_FORBIDDEN")),
            (&boss, "@root:localhost", json!("403 M_FORBIDDEN")),
        ] {
            let request = format!("PUT {path}/{user}");
            server.check(token, &request, (json!({ field: true }), expected)).await;
        }
        for flag in [true, false] {
            let put = format!("PUT {path}/@alice:localhost");
            server.check(&admin, &put, (json!({ field: flag }), json!({ field: flag }))).await;
            let get = format!("GET {path}/@alice:localhost");
            server.check(&admin, &get, (Value::Null, json!({ field: flag }))).await;
        }
    }
    let able = json!({ "suspend": true, "lock": true });
    for (token, expected) in [(&admin, able), (&alice, Value::Null)] {
        let found = server.met(token, "GET /capabilities", Value::Null).await;
        assert_eq!(found["capabilities"]["m.account_moderation"], expected);
    }
}

#[tokio::test]
async fn who_is_locked_may_log_out_and_nothing_else() {
    let (server, admin, alice) = server().await;
    let lock = |locked: bool| (json!({ "locked": locked }), json!({ "locked": locked }));
    let put = format!("PUT {LOCK}/@alice:localhost");
    server.check(&admin, &put, lock(true)).await;
    let (status, answer) = server.ask(&alice, "GET /sync", Value::Null).await;
    assert_eq!(
        (status, &answer["errcode"], &answer["soft_logout"]),
        (401, &json!("M_USER_LOCKED"), &json!(true))
    );
    server.check(&alice, "POST /createRoom", (json!({}), json!("401 M_USER_LOCKED"))).await;
    server.check(&admin, &put, lock(false)).await;
    assert!(server.met(&alice, "GET /account/whoami", Value::Null).await["user_id"].is_string());
    let tablet = server.login(json!({ "device_id": "TAB" })).await["access_token"].clone();
    server.check(&admin, &put, lock(true)).await;
    server.check(tablet.as_str().unwrap(), "POST /logout", (json!({}), json!({}))).await;
    server.check(&alice, "POST /logout/all", (json!({}), json!({}))).await;
    server.check(&alice, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
}

#[tokio::test]
async fn who_is_suspended_reads_leaves_and_redacts_their_own() {
    let (server, admin, alice) = server().await;
    let make = json!({ "preset": "public_chat", "power_level_content_override": { "redact": 0 } });
    let room = server.met(&admin, "POST /createRoom", make).await;
    let room = room["room_id"].as_str().unwrap();
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let mut said = Vec::new();
    for token in [&alice, &alice, &admin] {
        let path = format!("PUT /rooms/{room}/send/m.room.message/{}", said.len());
        let answer = server.met(token, &path, json!({ "body": "x", "msgtype": "m.text" })).await;
        said.push(answer["event_id"].as_str().unwrap().to_owned());
    }
    let suspended = json!({ "suspended": true });
    server.check(&admin, &format!("PUT {SUSPEND}/@alice:localhost"), (suspended.clone(), suspended)).await;
    let refused = "403 M_USER_SUSPENDED";
    for (request, body, expected) in [
        (format!("PUT /rooms/{room}/send/m.room.message/9"), json!({ "body": "x" }), refused),
        (format!("PUT /rooms/{room}/redact/{}/1", said[2]), json!({}), refused),
        (format!("PUT /rooms/{room}/send/m.room.redaction/2"), json!({ "redacts": said[2] }), refused),
        (format!("PUT /rooms/{room}/redact/{}/3", said[0]), json!({}), "ok"),
        (format!("PUT /rooms/{room}/send/m.room.redaction/4"), json!({ "redacts": said[1] }), "ok"),
        (format!("POST /rooms/{room}/invite"), json!({ "user_id": "@root:localhost" }), refused),
        ("POST /createRoom".to_owned(), json!({}), refused),
        ("PUT /profile/@alice:localhost/displayname".to_owned(), json!({ "displayname": "x" }), refused),
        ("GET /sync".to_owned(), Value::Null, "ok"),
        (format!("GET /rooms/{room}/messages?dir=b"), Value::Null, "ok"),
        (format!("POST /rooms/{room}/leave"), json!({}), "ok"),
        (format!("POST /join/{room}"), json!({}), refused),
        ("POST /logout".to_owned(), json!({}), "ok"),
    ] {
        let met = server.met(&alice, &request, body).await;
        assert_eq!(met.as_str().unwrap_or("ok"), expected, "{request}");
    }
}

#[tokio::test]
async fn who_asks_about_themselves_is_told_and_administrators_about_everybody() {
    let (server, admin, alice) = server().await;
    let whois = |user: &str| format!("GET /admin/whois/@{user}:localhost");
    let synapse = |user: &str| format!("GET /_synapse/admin/v1/whois/@{user}:localhost");
    server.ask(&alice, "GET /sync", Value::Null).await;
    for (token, request) in [(&alice, whois("alice")), (&admin, whois("alice")), (&admin, synapse("alice"))] {
        let told = server.met(token, &request, Value::Null).await;
        assert_eq!(told["user_id"], "@alice:localhost", "{request}");
        let connection = &told["devices"]["PHONE"]["sessions"][0]["connections"][0];
        assert!(connection["last_seen"].is_u64(), "{told}");
    }
    for (token, request, expected) in [
        (&alice, whois("root"), "403 M_FORBIDDEN"),
        (&alice, whois("nobody"), "403 M_FORBIDDEN"),
        (&alice, synapse("alice"), "403 M_FORBIDDEN"),
        (&admin, whois("nobody"), "404 M_NOT_FOUND"),
        (&admin, synapse("nobody"), "404 M_NOT_FOUND"),
    ] {
        server.check(token, &request, (Value::Null, json!(expected))).await;
    }
    assert_eq!(server.met(&admin, &whois("root"), Value::Null).await["user_id"], "@root:localhost");
}
