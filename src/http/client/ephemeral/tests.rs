//! Receipts and the fully-read marker as clients move them.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

#[tokio::test]
async fn the_fully_read_marker_moves_back_only_when_that_is_wanted() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let created = server.met(&alice, "POST /createRoom", json!({})).await;
    let room = created["room_id"].as_str().unwrap();
    let mut events = Vec::new();
    for number in 1..=3 {
        let path = format!("PUT /rooms/{room}/send/m.room.message/{number}");
        let sent = server.met(&alice, &path, json!({ "body": "x" })).await;
        events.push(sent["event_id"].as_str().unwrap().to_owned());
    }
    let marker = format!("GET /user/@alice:localhost/rooms/{room}/account_data/m.fully_read");
    let [one, two, three] = &events[..] else { panic!("{events:?}") };
    let backward = |value: Value| json!({ "com.beeper.allow_backward": value });
    let markers = |event: &str, value: Value| json!({ "m.fully_read": event, "m.read": event, "com.beeper.allow_backward": value });
    let bare = |event: &str| json!({ "m.fully_read": event });
    let receipt = |kind: &str, event: &str| format!("receipt/{kind}/{event}");
    for (path, body, expected, stands) in [
        ("read_markers".to_owned(), bare(two), json!({}), two),
        ("read_markers".to_owned(), bare(one), json!({}), two),
        ("read_markers".to_owned(), markers(one, json!(false)), json!({}), two),
        ("read_markers".to_owned(), markers(two, json!(true)), json!({}), two),
        ("read_markers".to_owned(), markers(one, json!(true)), json!({}), one),
        ("read_markers".to_owned(), markers(two, json!("yes")), json!("400 M_BAD_JSON"), one),
        ("read_markers".to_owned(), bare(three), json!({}), three),
        (receipt("m.fully_read", one), json!({}), json!({}), three),
        (receipt("m.fully_read", two), backward(json!(true)), json!({}), two),
        (receipt("m.fully_read", one), json!({ "allow_backward": true }), json!({}), one),
        (receipt("m.read", one), backward(json!(true)), json!("400 M_INVALID_PARAM"), one),
        (receipt("m.read.private", one), backward(json!(true)), json!("400 M_INVALID_PARAM"), one),
        (receipt("m.read", one), backward(json!(false)), json!({}), one),
    ] {
        server.check(&alice, &format!("POST /rooms/{room}/{path}"), (body.clone(), expected)).await;
        let met = server.met(&alice, &marker, Value::Null).await;
        assert_eq!(met, json!({ "event_id": stands }), "{path} {body}");
    }
    // The receipt has never moved back.
    let sync = server.met(&alice, "GET /sync", Value::Null).await;
    let told = sync["rooms"]["join"][room]["ephemeral"].to_string();
    assert!(told.contains(two) && !told.contains(one), "{told}");
}
