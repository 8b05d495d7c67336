//! What a user of another server said is redacted for an administrator of ours, and there too.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Server,
    rows::{joined, quoted},
};
use crate::http::Wire;

/// Asks until the answer is what is waited for.
async fn await_event(server: &Server, (token, path): (&str, &str), is_it: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let answer = server.met(token, path, Value::Null).await;
            if is_it(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it has never come")
}

#[tokio::test]
async fn what_somebody_elsewhere_said_is_redacted_there_too() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (root, alice) = (a.register("root").await, a.register("alice").await);
    a.app.accounts.change_user(&a.user("root"), |user| user.admin = true).await.unwrap();
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let bob = joined(&b, "bob", (&room, &a)).await;
    let say = format!("PUT /rooms/{}/send/m.room.message/1", quoted(&room));
    let said = b.met(&bob, &say, json!({ "msgtype": "m.text", "body": "buy" })).await;
    let event = format!("GET /rooms/{}/event/{}", quoted(&room), said["event_id"].as_str().unwrap());
    await_event(&a, (&alice, &event), Value::is_object).await;
    let redact = "POST /_synapse/admin/v1/user/@bob:b.org/redact";
    let begun = a.met(&root, redact, json!({ "rooms": [], "reason": "spam" })).await;
    assert!(begun["redact_id"].is_string(), "{begun}");
    let gone = await_event(&b, (&bob, &event), |event| event["content"] == json!({})).await;
    let because = &gone["unsigned"]["redacted_because"];
    assert_eq!((&because["sender"], &because["content"]["reason"]), (&json!("@alice:a.org"), &json!("spam")));
}
