//! Questions of one server to another, on behalf of its users.

use std::{collections::BTreeMap, time::Duration};

use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId,
    api::federation::keys::{claim_keys, get_keys},
    owned_user_id,
};
use serde_json::{Value, json};

use super::Server;
use crate::{
    http::Wire,
    limits::KEYS_ASKED_MAX,
    peer::{Bounds, PeerError},
};

#[tokio::test]
async fn users_look_into_other_servers() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let extra = json!({
        "preset": "public_chat", "visibility": "public", "room_alias_name": "space",
        "creation_content": { "type": "m.space" },
    });
    let space = a.room(&alice, "11", extra).await;
    let child = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let secret = a.room(&alice, "11", json!({ "preset": "private_chat" })).await;
    for room in [&child, &secret] {
        let put = format!("PUT /rooms/{space}/state/m.space.child/{room}");
        a.met(&alice, &put, json!({ "via": ["a.org"] })).await;
    }
    let profile = b.met("", "GET /profile/@alice:a.org", Value::Null).await;
    assert_eq!(profile, json!({ "displayname": "alice" }));
    assert_eq!(b.met("", "GET /profile/@nobody:a.org", Value::Null).await, "404 M_NOT_FOUND");
    let field = b.met("", "GET /profile/@alice:a.org/displayname", Value::Null).await;
    assert_eq!(field, json!({ "displayname": "alice" }));
    let found = b.met("", "GET /directory/room/#space:a.org", Value::Null).await;
    assert_eq!(found, json!({ "room_id": space, "servers": ["a.org"] }));
    assert_eq!(b.met("", "GET /directory/room/#nothing:a.org", Value::Null).await, "404 M_NOT_FOUND");
    let listed = b.met("", "GET /publicRooms?server=a.org", Value::Null).await;
    assert_eq!(listed["chunk"][0]["room_id"], json!(space), "{listed}");
    let summary = "GET /_matrix/client/v1/room_summary/#space:a.org";
    assert_eq!(b.met(&bob, summary, Value::Null).await["name"], "The room");
    let hierarchy = format!("GET /_matrix/client/v1/rooms/{space}/hierarchy");
    let rooms = b.met(&bob, &hierarchy, Value::Null).await;
    let ids: Vec<&Value> = rooms["rooms"].as_array().unwrap().iter().map(|room| &room["room_id"]).collect();
    assert_eq!(ids, [&json!(space), &json!(child)], "{rooms}");
}

#[tokio::test]
async fn keys_come_from_other_servers_and_dead_ones_are_named() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (_, bob) = (a.register("alice").await, b.register("bob").await);
    let wanted = json!({ "device_keys": { "@alice:a.org": [], "@eve:nowhere.org": [] } });
    let found = b.met(&bob, "POST /keys/query", wanted.clone()).await;
    assert_eq!(found["device_keys"]["@alice:a.org"], json!({}));
    let failed: Vec<&String> = found["failures"].as_object().unwrap().keys().collect();
    assert_eq!(failed, ["nowhere.org"]);
    wire.cut(&a.name);
    let found = b.met(&bob, "POST /keys/query", wanted).await;
    let failed: Vec<&String> = found["failures"].as_object().unwrap().keys().collect();
    assert_eq!(failed, ["a.org", "nowhere.org"]);
}

#[tokio::test]
async fn servers_that_name_too_many_devices_are_refused() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    a.register("alice").await;
    let bounds = Bounds::new(Duration::from_secs(5), 1 << 20);
    let alice = owned_user_id!("@alice:a.org");
    let is_refused = |error: PeerError| matches!(error, PeerError::Refused { status, .. } if status == 413);
    for (count, refused) in [(KEYS_ASKED_MAX, false), (KEYS_ASKED_MAX + 1, true)] {
        let devices: Vec<OwnedDeviceId> = (0..count).map(|n| format!("D{n}").into()).collect();
        let named = devices.iter().map(|device| (device.clone(), OneTimeKeyAlgorithm::SignedCurve25519));
        let claims = BTreeMap::from([(alice.clone(), named.collect())]);
        let answer = b.app.peers.call(&a.name, claim_keys::v1::Request::new(claims), bounds).await;
        assert_eq!(answer.is_err_and(is_refused), refused, "a claim of {count}");
        let query = BTreeMap::from([(alice.clone(), devices)]);
        let answer = b.app.peers.call(&a.name, get_keys::v1::Request::new(query), bounds).await;
        assert_eq!(answer.is_err_and(is_refused), refused, "a query for {count}");
    }
}
