//! Pushers and notifications over HTTP.

use serde_json::{Value, json};

use crate::{
    account::Registration,
    http::client::testing::Server,
    push::{PusherRow, Trouble},
};

fn pusher(key: &str) -> Value {
    json!({
        "app_id": "org.example.app", "pushkey": key, "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "profile_tag": "t",
        "data": { "url": "https://push.example.org/_matrix/push/v1/notify", "format": "event_id_only", "x": 1 },
    })
}

/// A pusher as it is listed.
fn listed(key: &str) -> Value {
    let listed = with(pusher(key), "org.matrix.msc3881.enabled", json!(true));
    with(listed, "org.matrix.msc3881.device_id", json!("PHONE"))
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test]
async fn pushers_are_set_listed_and_removed() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let set = "POST /pushers/set";
    server.check(&alice, "GET /pushers", (Value::Null, json!({ "pushers": [] }))).await;
    server.check(&alice, set, (pusher("a"), json!({}))).await;
    server.check(&alice, "GET /pushers", (Value::Null, json!({ "pushers": [listed("a")] }))).await;
    server.check(&bob, "GET /pushers", (Value::Null, json!({ "pushers": [] }))).await;

    // Beside another user's on the same phone, or in its place.
    server.check(&bob, set, (with(pusher("a"), "append", json!(true)), json!({}))).await;
    server.check(&alice, "GET /pushers", (Value::Null, json!({ "pushers": [listed("a")] }))).await;
    server.check(&bob, set, (pusher("a"), json!({}))).await;
    server.check(&alice, "GET /pushers", (Value::Null, json!({ "pushers": [] }))).await;
    server.check(&bob, "GET /pushers", (Value::Null, json!({ "pushers": [listed("a")] }))).await;

    let off = |value: Value| with(pusher("a"), "org.matrix.msc3881.enabled", value);
    server.check(&bob, set, (off(json!(false)), json!({}))).await;
    let met = server.met(&bob, "GET /pushers", Value::Null).await;
    assert_eq!(met["pushers"][0]["org.matrix.msc3881.enabled"], false);
    server.check(&bob, set, (off(json!("x")), json!("400 M_BAD_JSON"))).await;

    let gone = json!({ "app_id": "org.example.app", "pushkey": "a", "kind": null });
    server.check(&bob, set, (gone.clone(), json!({}))).await;
    server.check(&bob, set, (gone, json!({}))).await;
    server.check(&bob, "GET /pushers", (Value::Null, json!({ "pushers": [] }))).await;

    let bad = json!("400 M_INVALID_PARAM");
    for (field, value) in [
        ("pushkey", json!("x".repeat(513))),
        ("app_id", json!("x".repeat(65))),
        ("kind", json!("email")),
        ("data", json!({ "url": "https://push.example.org/elsewhere" })),
        ("data", json!({ "url": "ftp://push.example.org/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "nonsense" })),
    ] {
        server.check(&bob, set, (with(pusher("b"), field, value), bad.clone())).await;
    }
}

#[tokio::test]
async fn pushers_go_with_their_device() {
    let server = Server::new(Registration::Open).await;
    let phone = server.register("alice").await;
    let tablet =
        server.login(json!({ "device_id": "TABLET" })).await["access_token"].as_str().unwrap().to_owned();
    server.check(&phone, "POST /pushers/set", (pusher("a"), json!({}))).await;
    server.check(&tablet, "POST /pushers/set", (pusher("b"), json!({}))).await;
    server.check(&tablet, "POST /logout", (json!({}), json!({}))).await;
    server.check(&phone, "GET /pushers", (Value::Null, json!({ "pushers": [listed("a")] }))).await;
}

#[tokio::test]
async fn notifications_are_listed_newest_first_in_pages() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.met(&bob, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let mut events = Vec::new();
    for (txn, body) in ["one", "alice: two", "three"].into_iter().enumerate() {
        let path = format!("PUT /rooms/{room}/send/m.room.message/{txn}");
        let mentioned = if body.contains("alice") { vec!["@alice:localhost"] } else { vec![] };
        let content = json!({ "msgtype": "m.text", "body": body, "m.mentions": { "user_ids": mentioned } });
        let said = server.met(&bob, &path, content).await;
        events.push(said["event_id"].as_str().unwrap().to_owned());
    }
    let read = format!("POST /rooms/{room}/receipt/m.read/{}", events[1]);
    server.met(&alice, &read, json!({})).await;
    let page = server.met(&alice, "GET /notifications?limit=2", Value::Null).await;
    let seen = |page: &Value| -> Vec<(String, bool)> {
        let list = page["notifications"].as_array().unwrap_or_else(|| panic!("{page}"));
        let one = |it: &Value| (it["event"]["event_id"].as_str().unwrap().to_owned(), it["read"] == true);
        list.iter().map(one).collect()
    };
    assert_eq!(seen(&page), [(events[2].clone(), false), (events[1].clone(), true)]);
    assert_eq!(page["notifications"][0]["room_id"], room);
    let next = page["next_token"].as_str().unwrap();
    let rest = server.met(&alice, &format!("GET /notifications?limit=2&from={next}"), Value::Null).await;
    assert_eq!(seen(&rest), [(events[0].clone(), true)]);
    assert_eq!(rest.get("next_token"), None);
    let loud = server.met(&alice, "GET /notifications?only=highlight", Value::Null).await;
    assert_eq!(seen(&loud), [(events[1].clone(), true)]);
    server.check(&alice, "GET /notifications?from=x", (Value::Null, json!("400 M_INVALID_PARAM"))).await;
}

#[tokio::test]
async fn administrators_see_whether_notifications_arrive() {
    let server = Server::new(Registration::Open).await;
    let (alice, root) = (server.register("alice").await, server.register("root").await);
    let admin = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(admin, |user| user.admin = true).await.unwrap();
    server.check(&alice, "POST /pushers/set", (pusher("a"), json!({}))).await;
    let push = &server.app().push;
    let (id, before) = push.pushers(ruma::user_id!("@alice:localhost")).await.unwrap().remove(0);
    let last_error = "no answer".to_owned();
    let trouble = Trouble { failing_since_ms: 5, retry_at_ms: 9, failures: 3, last_error };
    let after = PusherRow { told_ms: Some(4), trouble: Some(trouble), ..before.clone() };
    assert!(push.advance_pusher(&id, &before, &after).await.unwrap());
    let path = "GET /_synapse/admin/v1/users/@alice:localhost/pushers";
    server.check(&alice, path, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    let told = server.met(&root, path, Value::Null).await;
    let shown = &told["pushers"][0];
    assert_eq!((&told["total"], &shown["pushkey"]), (&json!(1), &json!("a")), "{told}");
    for (name, expected) in [
        ("last_success_ts", json!(4)),
        ("failing_since_ts", json!(5)),
        ("retry_ts", json!(9)),
        ("failures", json!(3)),
        ("last_error", json!("no answer")),
    ] {
        assert_eq!(shown[name], expected, "{name}: {told}");
    }
}
