//! Rooms that are named by their create event, and two rooms of one name: section 8 of the list of known
//! vulnerabilities.

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::{Node, Wire, hostile::forged, user};
use crate::{dag::Pdu, history::Status};

async fn scene(version: &str) -> (std::sync::Arc<Wire>, OwnedRoomId) {
    let wire = Wire::new(&["a", "b"]).await;
    let a = wire.node("a");
    let room = a.create("alice@a", version).await;
    wire.node("b").join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    (wire, room)
}

/// What comes of an event that b signs.
async fn verdict(wire: &Wire, room: &OwnedRoomId, version: &str, fields: Value) -> String {
    let (a, b) = (wire.node("a"), wire.node("b"));
    let content = json!({ "body": "x" });
    let honest = b.build(&b, room, (&user("bob@b"), "m.room.message", None, content)).await;
    let text = forged(&honest, &b, version, fields);
    let results = a.rooms().receive(&b.name, room, vec![text]).await.unwrap();
    results
        .into_iter()
        .map(|(_, result)| result.map_or_else(|error| error.to_string(), |()| "ok".into()))
        .collect()
}

/// Without a better word, an event that is left out of the answer was dropped.
fn is_refused(verdict: &str) -> bool {
    verdict != "ok"
}

#[tokio::test]
async fn row_8_b_the_create_event_is_in_no_auth_events_of_version_12() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let content = json!({ "body": "x" });
    let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
    let create = a.history().room(&room).await.unwrap().unwrap().create.clone();
    assert!(!honest.auth_events().contains(&create));
    let mut auth: Vec<String> = honest.auth_events().iter().map(ToString::to_string).collect();
    auth.push(create.to_string());
    let answer = verdict(&wire, &room, "12", json!({ "auth_events": auth })).await;
    assert!(is_refused(&answer), "{answer}");
    assert_eq!(verdict(&wire, &room, "12", json!({ "depth": 3 })).await, "ok");
}

#[tokio::test]
async fn row_8_c_creators_are_above_all_levels() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let refused =
        a.set("alice@a", &room, ("m.room.power_levels", ""), json!({ "users": { "@alice:a.org": 100 } }));
    assert!(refused.await.is_err(), "creators are not named");
    let levels = json!({ "users": { "@bob:b.org": 9_007_199_254_740_991_i64 } });
    a.set("alice@a", &room, ("m.room.power_levels", ""), levels).await.unwrap();
    wire.drive().await;
    let kick = (&user("bob@b"), "m.room.member", Some("@alice:a.org"), json!({ "membership": "leave" }));
    let kick = b.build(&b, &room, kick).await;
    assert!(a.receive(&b, &[&kick]).await[0].contains("rejected"), "bob is not above alice");
    assert_eq!(a.status(kick.event_id()).await, Some(Status::Rejected));
    a.rooms().kick(&user("alice@a"), &room, &user("bob@b"), None).await.unwrap();
}

/// A second create event for a room of the same name changes nothing, in whichever version.
#[tokio::test]
async fn row_8_e_a_second_create_event_is_refused() {
    for version in ["1", "6", "10", "11", "12"] {
        let (wire, room) = scene(version).await;
        let a = wire.node("a");
        let state = a.state(&room).await;
        let create = json!({
            "type": "m.room.create", "state_key": "", "prev_events": [], "auth_events": [], "depth": 1,
            "content": { "creator": "@bob:b.org", "room_version": version },
        });
        let answer = verdict(&wire, &room, version, create.clone()).await;
        assert!(is_refused(&answer), "version {version}: {answer}");
        let mut follows = create;
        follows.as_object_mut().unwrap().remove("prev_events");
        let answer = verdict(&wire, &room, version, follows).await;
        assert!(is_refused(&answer), "version {version}, with previous events: {answer}");
        assert_eq!(a.state(&room).await, state, "version {version}");
        wire.drive().await;
        assert_eq!(wire.node("b").state(&room).await, state, "version {version}");
    }
}

/// The id of a room is the hash of its create event: that of another room is not taken for it.
#[tokio::test]
async fn row_8_b_a_room_is_not_joined_by_the_create_event_of_another() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let other = a.create("alice@a", "12").await;
    let create = |node: &Node, room: &OwnedRoomId| {
        let (history, room) = (node.history().clone(), room.clone());
        async move {
            let id = history.room(&room).await.unwrap().unwrap().create.clone();
            history.event(&id).await.unwrap().unwrap().pdu.clone()
        }
    };
    let (ours, theirs): (Pdu, Pdu) = (create(&a, &room).await, create(&a, &other).await);
    assert_eq!(ours.room_id(), room);
    assert_eq!(theirs.room_id(), other);
    assert!(!ours.text().contains("room_id"), "it cannot name itself");
    let results = b.rooms().receive(&a.name, &room, vec![theirs.json().to_owned()]).await.unwrap();
    assert!(results.iter().all(|(_, result)| result.is_err()), "{results:?}");
    assert_eq!(b.status(theirs.event_id()).await, None);
}
