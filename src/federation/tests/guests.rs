//! Guests in rooms of several servers: each looks after its own.

use std::time::Duration;

use serde_json::{Map, json};

use super::{Wire, server, user};
use crate::{room::RoomError, types::Membership};

const ACCESS: (&str, &str) = ("m.room.guest_access", "");

#[tokio::test]
async fn guests_leave_when_a_user_of_another_server_says_so() {
    for redacts in [false, true] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", "12").await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let early = b.join_through(&a, &room, "guest@b").await;
        assert!(matches!(early, Err(RoomError::GuestsForbidden)), "{early:?}");
        let wanted = a.set("alice@a", &room, ACCESS, json!({ "guest_access": "can_join" })).await.unwrap();
        wire.drive().await;
        b.join_through(&a, &room, "guest@b").await.unwrap();
        a.join_through(&a, &room, "guest@a").await.unwrap();
        // What the room wants is not known out there.
        let outside = c.rooms().enter(&user("guest@c"), &room, &[server("a")], (None, Map::new())).await;
        assert!(matches!(outside, Err(RoomError::GuestsForbidden)), "{outside:?}");
        wire.drive().await;
        match redacts {
            true => drop(a.rooms().redact(&user("alice@a"), &room, &wanted, (None, None)).await.unwrap()),
            false => {
                drop(a.set("alice@a", &room, ACCESS, json!({ "guest_access": "forbidden" })).await.unwrap())
            }
        }
        wire.drive().await;
        // Both are put out at once, which makes a fork: the later event wins.
        wire.clock.advance(Duration::from_secs(1));
        for node in [&a, &b] {
            node.rooms().look_at_guests().await.unwrap();
        }
        wire.drive().await;
        for node in [&a, &b] {
            for (who, expected) in [
                ("guest@a", Membership::Leave),
                ("guest@b", Membership::Leave),
                ("bob@b", Membership::Join),
                ("alice@a", Membership::Join),
            ] {
                let membership = node.history().membership(&room, &user(who)).await.unwrap();
                assert_eq!(membership, Some(expected), "{who} at {}, {redacts}", node.name);
            }
        }
    }
}
