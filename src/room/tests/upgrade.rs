//! The power levels of rooms that replace others.

use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use super::{NewRoom, World, user, word};

impl World {
    async fn room_of(&self, version: &str, levels: Value) -> OwnedRoomId {
        let room = NewRoom {
            version: Some(version.try_into().unwrap()),
            is_public: true,
            power_levels: levels.as_object().unwrap().clone(),
            ..NewRoom::default()
        };
        self.rooms.create(&user("alice"), room).await.unwrap()
    }

    /// The levels of the room by which `name` replaces `room`.
    async fn upgraded(&self, name: &str, room: &RoomId, version: &str) -> (OwnedRoomId, Value) {
        let new = self.rooms.upgrade(&user(name), room, version.try_into().unwrap(), &[]).await.unwrap();
        let levels = self.now(&new, "m.room.power_levels", "").await;
        (new, levels)
    }
}

#[tokio::test]
async fn who_is_more_powerful_than_the_upgrader_stays_so() {
    for version in ["9", "11"] {
        let world = World::new().await;
        let users = json!({ "@alice:a.org": 150, "@bob:a.org": 100, "@carol:a.org": 50 });
        let events = json!({ "m.room.topic": 130, "m.room.tombstone": 50, "m.room.power_levels": 100 });
        let room = world.room_of("11", json!({ "users": users, "events": events })).await;
        for name in ["bob", "carol"] {
            world.join(name, &room).await.unwrap();
        }
        world.set("alice", &room, "m.room.topic", json!({ "topic": "T" })).await.unwrap();
        world.rooms.put_alias(&user("alice"), "#a:a.org".try_into().unwrap(), &room).await.unwrap();
        world.set("alice", &room, "m.room.canonical_alias", json!({ "alias": "#a:a.org" })).await.unwrap();
        for name in ["bob", "carol"] {
            let (new, levels) = world.upgraded(name, &room, version).await;
            assert_eq!(levels["users"], users, "{name} {version}");
            assert_eq!(levels["events"]["m.room.topic"], 130, "{name} {version}");
            // What only others could set is there all the same.
            assert_eq!(world.now(&new, "m.room.topic", "").await["topic"], "T", "{name} {version}");
            let topic = world.set(name, &new, "m.room.topic", json!({ "topic": "U" })).await;
            assert_eq!(word(topic), "forbidden", "{name} {version}");
        }
    }
}

#[tokio::test]
async fn levels_that_are_texts_become_numbers() {
    for version in ["9", "10", "12"] {
        let world = World::new().await;
        let room = world.room("9").await;
        let levels = json!({
            "users": { "@alice:a.org": " 100", "@bob:a.org": "+50" }, "users_default": "1", "ban": "60", "x": "60",
            "events": { "m.room.name": "70", "m.room.tombstone": "80" }, "notifications": { "room": "20" },
        });
        world.set("alice", &room, "m.room.power_levels", levels).await.unwrap();
        let (new, levels) = world.upgraded("alice", &room, version).await;
        let named = (&levels["users"]["@bob:a.org"], &levels["users_default"], &levels["ban"], &levels["x"]);
        assert_eq!(named, (&json!(50), &json!(1), &json!(60), &json!("60")), "{version}");
        let named = (&levels["events"]["m.room.name"], &levels["notifications"]["room"]);
        assert_eq!(named, (&json!(70), &json!(20)), "{version}");
        assert_eq!(levels["users"].get("@alice:a.org").is_some(), version != "12");
        let name = world.set("alice", &new, "m.room.name", json!({ "name": "N" })).await;
        assert_eq!(word(name), "ok", "{version}");
        // The old room is closed to who has no power, and to nobody else.
        let closed = world.now(&room, "m.room.power_levels", "").await;
        assert_eq!((&closed["events_default"], &closed["users_default"]), (&json!(50), &json!(1)));
    }
}

#[tokio::test]
async fn a_creator_without_bounds_is_the_most_powerful_in_an_older_version() {
    let world = World::new().await;
    let users = json!({ "@bob:a.org": 9000 });
    let room = world.room_of("12", json!({ "users": users })).await;
    let (_, levels) = world.upgraded("alice", &room, "11").await;
    assert_eq!(levels["users"], json!({ "@alice:a.org": 9000, "@bob:a.org": 9000 }));
}
