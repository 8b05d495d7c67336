//! Redacting what a user said.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

const REDACT: &str = "POST /_synapse/admin/v1/user/@spam:localhost/redact";

/// A server with an administrator, alice and `@spam`; their tokens.
async fn scene() -> (Server, [String; 3]) {
    let server = Server::new(Registration::Open).await;
    let mut tokens = Vec::new();
    for name in ["root", "alice", "spam"] {
        tokens.push(server.register(name).await);
    }
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    (server, tokens.try_into().unwrap())
}

/// A room of `owner`'s in which `@spam` has said something three times; the room and the ids of what was said.
async fn spammed(server: &Server, (owner, spam): (&str, &str)) -> (String, Vec<String>) {
    let room = server.met(owner, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    server.met(spam, &format!("POST /join/{room}"), json!({})).await;
    let mut said = Vec::new();
    for number in 0..3 {
        let body = json!({ "msgtype": "m.text", "body": "buy" });
        let sent = server.met(spam, &format!("PUT /rooms/{room}/send/m.room.message/{number}"), body).await;
        said.push(sent["event_id"].as_str().unwrap().to_owned());
    }
    (room, said)
}

/// Asks, and waits until it is done.
async fn redact(server: &Server, admin: &str, wanted: Value) -> Value {
    let begun = server.met(admin, REDACT, wanted).await;
    let id = begun["redact_id"].as_str().unwrap_or_else(|| panic!("{begun}"));
    loop {
        let request = format!("GET /_synapse/admin/v1/user/redact_status/{id}");
        let status = server.met(admin, &request, Value::Null).await;
        if status["status"] != "active" && status["status"] != "scheduled" {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

/// Who has redacted which of `ids`, and why.
async fn redacted(server: &Server, (token, room): (&str, &str), ids: &[String]) -> Vec<(Value, Value)> {
    let mut found = Vec::new();
    for id in ids {
        let event = server.met(token, &format!("GET /rooms/{room}/event/{id}"), Value::Null).await;
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(because.is_object(), event["content"] == json!({}), "{event}");
        found.push((because["sender"].clone(), because["content"]["reason"].clone()));
    }
    found
}

#[tokio::test]
async fn what_a_user_said_is_redacted_by_whoever_may() {
    let (server, [root, alice, spam]) = scene().await;
    let (ours, first) = spammed(&server, (&root, &spam)).await;
    let (theirs, second) = spammed(&server, (&alice, &spam)).await;
    server.met(&alice, &format!("POST /rooms/{theirs}/ban"), json!({ "user_id": "@spam:localhost" })).await;
    let (lonely, third) = spammed(&server, (&alice, &spam)).await;
    server.met(&alice, &format!("POST /rooms/{lonely}/leave"), json!({})).await;
    server.check(&alice, REDACT, (json!({ "rooms": [] }), json!("403 M_FORBIDDEN"))).await;
    for (wrong, expected) in [
        (json!({}), "400 M_BAD_JSON"),
        (json!({ "rooms": [], "limit": 0 }), "400 M_INVALID_PARAM"),
        (json!({ "rooms": ["no room"] }), "400 M_BAD_JSON"),
    ] {
        server.check(&root, REDACT, (wrong, json!(expected))).await;
    }
    let status = "GET /_synapse/admin/v1/user/redact_status/none";
    server.check(&root, status, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    // The newest of one room.
    let done = redact(&server, &root, json!({ "rooms": [ours], "limit": 2, "reason": "spam" })).await;
    assert_eq!(done, json!({ "status": "complete", "failed_redactions": {} }));
    let by_root = (json!("@root:localhost"), json!("spam"));
    let none = (Value::Null, Value::Null);
    assert_eq!(redacted(&server, (&root, &ours), &first).await, [none.clone(), by_root.clone(), by_root]);
    assert_eq!(redacted(&server, (&alice, &theirs), &second).await, [none.clone(), none.clone(), none]);
    // All of them, by whoever is left that may.
    let done = redact(&server, &root, json!({ "rooms": [] })).await;
    assert_eq!(done, json!({ "status": "complete", "failed_redactions": {} }));
    let by = |user: &str| (json!(format!("@{user}:localhost")), Value::Null);
    assert_eq!(redacted(&server, (&root, &ours), &first).await[0], by("root"));
    assert_eq!(redacted(&server, (&alice, &theirs), &second).await, [by("alice"), by("alice"), by("alice")]);
    assert_eq!(redacted(&server, (&spam, &lonely), &third).await, [by("spam"), by("spam"), by("spam")]);
}

#[tokio::test]
async fn what_cannot_be_redacted_is_told() {
    let (server, [root, alice, spam]) = scene().await;
    let (room, said) = spammed(&server, (&alice, &spam)).await;
    let done = redact(&server, &root, json!({ "rooms": [room], "use_admin": true })).await;
    assert_eq!(done["status"], "complete", "{done}");
    let failed = done["failed_redactions"].as_object().unwrap();
    assert!(said.iter().all(|id| failed[id].is_string()), "{done}");
    assert!(redacted(&server, (&alice, &room), &said).await.iter().all(|(by, _)| by.is_null()));
    // Only what was said in the time that is given.
    let done = redact(&server, &root, json!({ "rooms": [room], "after_ts": 1 })).await;
    assert_eq!(done["failed_redactions"], json!({}));
    assert!(redacted(&server, (&alice, &room), &said).await.iter().all(|(by, _)| by.is_null()));
}
