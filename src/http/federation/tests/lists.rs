//! What the servers of a room hear of the devices of who comes in.

use std::time::Duration;

use ruma::OwnedUserId;
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    device::TOLD,
    http::Wire,
    log::Direction,
    types::{Fact, Lane, Position},
};

/// Waits until `other` has taken what `server` has to tell of the devices of `user`.
async fn has_told(server: &Server, other: &Server, user: OwnedUserId) {
    let key = (other.name.clone(), user);
    let told = async {
        while server.app.log.db().row(&TOLD, &key).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), told).await.is_ok(), "never told of {}", key.1);
}

/// Server-Server API, "Device Management": "when that user joins a room which contains servers which are not already
/// receiving updates for that user's device list".
#[tokio::test]
async fn who_comes_into_a_room_has_its_servers_told_of_the_devices() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob, carol) = (a.register("alice").await, b.register("bob").await, b.register("carol").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    // Through another server, and where there is a user of ours already.
    for (user, token) in [("bob", &bob), ("carol", &carol)] {
        let joined = b.met(token, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }));
        // Of itself that reaches nobody.
        let path = format!("PUT /rooms/{room}/send/m.room.message/{user}");
        b.met(token, &path, json!({ "msgtype": "m.text", "body": "hello" })).await;
        has_told(&b, &a, b.user(user)).await;
    }
    // Whoever knew already that bob is there has taken it to heart.
    let people = a.app.log.registers(&Lane::People, Position::ZERO, Position::MAX).await.unwrap();
    let of_bob = Fact::Devices { user_id: b.user("bob") };
    assert!(people.iter().any(|(_, fact)| *fact == of_bob), "{people:?}");

    // Who has another name has not come in anew.
    b.met(&carol, "PUT /profile/@carol:b.org/displayname", json!({ "displayname": "Carol" })).await;
    let egress = Lane::Egress(room.clone());
    let told = b.app.log.registers(&egress, Position::ZERO, Position::MAX).await.unwrap();
    let told: Vec<_> = told.into_iter().filter(|(_, fact)| matches!(fact, Fact::Devices { .. })).collect();
    assert_eq!(told.len(), 2, "{told:?}");

    // What is remembered of the events' places is what stands in the log.
    let range = (Position::ZERO, Position::MAX);
    for (at, fact) in b.app.log.timeline(&room, range, Direction::Forward, 100).await.unwrap() {
        if let Fact::Event { event_id } = fact {
            let event = b.app.history.event(&event_id).await.unwrap().unwrap();
            assert_eq!(event.position, at, "{}", event.pdu.json());
        }
    }
    let sync = b.met(&bob, "GET /sync", Value::Null).await;
    assert!(sync["rooms"]["join"][room.as_str()].is_object(), "{sync}");
}
