//! What those who run a server are told of when a resolution takes something away.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{sluggish::Sluggish, via};
use crate::{federation::Transaction, http::tests::Lines};

#[tokio::test]
async fn a_room_that_goes_back_is_told_in_the_log() {
    let net = Sluggish::default();
    let (a, b) = (net.server("a.org").await, net.server("b.org").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let rules = format!("PUT /rooms/{room}/state/m.room.join_rules/");
    let power = format!("PUT /rooms/{room}/state/m.room.power_levels/");
    let levels = |bob: u32| json!({ "users": { "@alice:a.org": 100, "@bob:b.org": bob } });
    a.met(&alice, &power, levels(50)).await;
    let closed = a.met(&alice, &rules, json!({ "join_rule": "invite" })).await;
    a.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@bob:b.org" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    // From now on they do not hear of one another.
    net.refuse("/send/");
    let demoted = a.met(&alice, &power, levels(0)).await;
    let opened = b.met(&bob, &rules, json!({ "join_rule": "public" })).await;
    let id = |answer: &Value| answer["event_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let event: OwnedEventId = id(&demoted).try_into().unwrap();
    let pdus = vec![a.app.history.event(&event).await.unwrap().unwrap().pdu.json().to_owned()];
    let transaction = Transaction { id: String::from("1"), pdus, edus: Vec::new() };

    // See `http::tests`: a single subscriber may be asked by other threads first.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    b.app.federation.receive(&a.name, transaction).await.unwrap();
    drop(guard);
    assert_eq!(b.app.rooms.setbacks(), 1);
    let text = lines.text();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("went back")).collect();
    let [line] = told[..] else { panic!("{told:?}") };
    assert!(line.contains("WARN"), "{line}");
    for word in [room.as_str(), "m.room.join_rules", &id(&opened), &id(&closed), &id(&demoted)] {
        assert!(line.contains(word), "{word}: {line}");
    }
}
