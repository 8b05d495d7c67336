//! What is too large for other servers is refused when it is made, and never queued for them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Server, hostile::Tampered, via};
use crate::{
    http::Wire,
    limits::{STRIPPED_BYTES_MAX, TO_DEVICE_BYTES_MAX},
    types::{Lane, Membership, Position},
};

/// Row 3.4 of the list of known vulnerabilities (CVE-2023-32323: a large invite stopped all that a server had to tell
/// another one).
#[tokio::test]
async fn row_3_4_what_is_too_large_is_never_queued() {
    let wire = Wire::default();
    let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let net = Arc::new(Tampered { wire: wire.clone(), change: Box::new(|_, _| ()), seen: seen.clone() });
    let a = Server::behind("a.org", &wire, net).await;
    let (b, c) = (Server::new("b.org", &wire).await, Server::new("c.org", &wire).await);
    let (alice, bob, _) = (a.register("alice").await, b.register("bob").await, b.register("carol").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;

    let huge = "x".repeat(TO_DEVICE_BYTES_MAX + 1);
    let messages = json!({ "messages": { "@bob:b.org": { "PHONE": { "x": huge } } } });
    for (request, body) in [
        (format!("PUT /rooms/{room}/send/m.room.message/1"), json!({ "body": huge })),
        (format!("PUT /rooms/{room}/state/org.example.x"), json!({ "x": huge })),
        (String::from("PUT /sendToDevice/org.example.x/1"), messages),
        (format!("POST /rooms/{room}/invite"), json!({ "user_id": "@carol:b.org", "reason": huge })),
        (String::from("PUT /profile/@alice:a.org/displayname"), json!({ "displayname": huge })),
    ] {
        let answer = a.met(&alice, &request, body).await;
        let refused = answer.as_str().is_some_and(|told| told.starts_with("413") || told.starts_with("400"));
        assert!(refused, "{request}: {answer}");
    }
    let outbox = Lane::Outbox(b.name.clone());
    let queued = a.app.log.queued(&outbox, Position::ZERO, 100).await.unwrap();
    assert!(queued.is_empty(), "{queued:?}");

    // As much state as there may be of what an invite shows.
    let long = "x".repeat(60_000);
    for (kind, field) in [
        ("name", "name"),
        ("topic", "topic"),
        ("avatar", "url"),
        ("join_rules", "allow"),
        ("encryption", "x"),
    ] {
        let mut content = json!({ field: long });
        if kind == "join_rules" {
            content = json!({ "join_rule": "invite", "x": long });
        }
        let answer = a.met(&alice, &format!("PUT /rooms/{room}/state/m.room.{kind}"), content).await;
        assert!(answer["event_id"].is_string(), "{kind}: {answer}");
    }
    let invited =
        a.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@carol:b.org" })).await;
    assert_eq!(invited, json!({}), "the invite is made all the same");
    let shown = seen.lock().iter().find(|(path, _)| path.contains("/invite/")).cloned().unwrap().1;
    let shown = shown["invite_room_state"].clone();
    let (count, bytes) = (shown.as_array().unwrap().len(), shown.to_string().len());
    // With the brackets, and a comma after each.
    assert!(bytes <= STRIPPED_BYTES_MAX + count + 2, "{count} events of {bytes} bytes");
    let has = |kind: &str| shown.as_array().unwrap().iter().any(|event| event["type"] == kind);
    assert!(["m.room.create", "m.room.member", "m.room.join_rules", "m.room.name"].into_iter().all(has));
    assert!(!has("m.room.topic"), "what does not fit is left out");
    assert_eq!(b.membership(&room, &b.user("carol")).await, Some(Membership::Invite));
    let knocking = a.app.rooms.telling_state(&room).await.unwrap();
    let bytes: usize = knocking.iter().map(|event| event.get().len()).sum();
    assert!(knocking.len() > 3 && bytes <= STRIPPED_BYTES_MAX, "{} events of {bytes} bytes", knocking.len());
    // The server that has not been there before takes all of it.
    let dave = c.register("dave").await;
    a.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@dave:c.org" })).await;
    let sync = c.met(&dave, "GET /sync", Value::Null).await;
    let taken = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().unwrap().len();
    assert_eq!(taken, count + 1, "all that was told, and the invite");

    // Everything else goes on.
    let said =
        a.met(&alice, &format!("PUT /rooms/{room}/send/m.room.message/2"), json!({ "body": "on" })).await;
    let said = ruma::OwnedEventId::try_from(said["event_id"].as_str().unwrap()).unwrap();
    let arrives = async {
        while b.app.history.event(&said).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), arrives).await.is_ok(), "it never arrives");
}
