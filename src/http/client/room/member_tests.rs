//! Memberships that are set as state, and those that come with a new room.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::{Config, Rate},
    history::tables::BLOCKED,
    http::{client::testing::Server, tests::services_at},
    log::Commit,
    types::ManualClock,
};

struct World {
    server: Server,
    alice: String,
    bob: String,
}

impl World {
    async fn new() -> Self {
        let mut config = Config::default();
        config.rate_limits.joins = Rate { per_second: 0.001, burst: 2 };
        config.rate_limits.invites = Rate { per_second: 0.001, burst: 3 };
        let services = services_at(config, Arc::new(ManualClock::at(1_700_000_000_000))).await;
        let server = Server::over(services, Registration::Open);
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        Self { server, alice, bob }
    }

    async fn room(&self) -> String {
        let wanted = json!({ "preset": "public_chat" });
        self.server.met(&self.alice, "POST /createRoom", wanted).await["room_id"].as_str().unwrap().to_owned()
    }

    async fn put(&self, token: &str, room: &str, (name, content): (&str, Value)) -> Value {
        let path = format!("PUT /rooms/{room}/state/m.room.member/@{name}:localhost");
        self.server.met(token, &path, content).await
    }

    async fn member(&self, room: &str, name: &str) -> Value {
        let path = format!("GET /rooms/{room}/state/m.room.member/@{name}:localhost?format=event");
        self.server.met(&self.alice, &path, Value::Null).await
    }
}

#[tokio::test]
async fn a_join_that_is_set_as_state_is_a_join() {
    let world = World::new().await;
    let (room, blocked, third) = (world.room().await, world.room().await, world.room().await);
    let mut commit = Commit::new();
    commit.put(&BLOCKED, &(blocked.as_str().try_into().unwrap(),), &0);
    world.server.app().log.commit(commit).await.unwrap();
    let content = json!({ "membership": "join", "displayname": "B", "reason": "why", "org.x": 1 });
    let joined = world.put(&world.bob, &room, ("bob", content.clone())).await;
    let member = world.member(&room, "bob").await;
    assert_eq!((&member["event_id"], &member["content"]), (&joined["event_id"], &content));
    // A new name is no join, and counts as none.
    for name in ["C", "D", "E"] {
        let content = json!({ "membership": "join", "displayname": name });
        assert!(world.put(&world.bob, &room, ("bob", content.clone())).await["event_id"].is_string());
        assert_eq!(world.member(&room, "bob").await["content"], content);
    }
    let join = || json!({ "membership": "join" });
    assert_eq!(world.put(&world.bob, &blocked, ("bob", join())).await, "403 M_FORBIDDEN");
    assert_eq!(world.put(&world.bob, &third, ("bob", join())).await, "429 M_LIMIT_EXCEEDED");
    let knock = json!({ "membership": "knock" });
    assert_eq!(world.put(&world.bob, &third, ("bob", knock)).await, "429 M_LIMIT_EXCEEDED");
    assert_eq!(world.put(&world.bob, &room, ("bob", json!({}))).await, "400 M_BAD_JSON");
    assert_eq!(world.put(&world.bob, &room, ("bob", json!({ "membership": "x" }))).await, "400 M_BAD_JSON");
    let leave = json!({ "membership": "leave", "reason": "gone", "org.x": 2 });
    world.put(&world.bob, &room, ("bob", leave.clone())).await;
    assert_eq!(world.member(&room, "bob").await["content"], leave);
}

#[tokio::test]
async fn invites_count_however_they_are_made() {
    let world = World::new().await;
    let room = world.room().await;
    let invite = || json!({ "membership": "invite", "reason": "come" });
    world.put(&world.alice, &room, ("bob", invite())).await;
    let told = world.member(&room, "bob").await["content"].clone();
    assert_eq!(told, json!({ "membership": "invite", "reason": "come", "displayname": "bob" }));
    let many = json!({ "invite": ["@a:localhost", "@b:localhost", "@c:localhost"] });
    let create = |wanted: Value| world.server.met(&world.alice, "POST /createRoom", wanted);
    assert_eq!(create(many).await, "429 M_LIMIT_EXCEEDED");
    let more = json!({ "invite": ["@a:localhost", "@b:localhost", "@c:localhost", "@d:localhost"] });
    assert_eq!(create(more).await, "400 M_INVALID_PARAM", "it never is too early for so many");
    let doubled = json!({ "invite": ["@bob:localhost", "@bob:localhost", "@alice:localhost"] });
    assert!(create(doubled).await["room_id"].is_string(), "it is one");
    assert!(world.put(&world.alice, &room, ("carol", invite())).await["event_id"].is_string());
    assert_eq!(world.put(&world.alice, &room, ("dan", invite())).await, "429 M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_room_that_its_creator_may_not_make_is_not_made() {
    let world = World::new().await;
    let create = |wanted: Value| world.server.met(&world.alice, "POST /createRoom", wanted);
    let levels = json!({ "events": { "m.room.name": 200 } });
    let wanted = json!({ "room_version": "11", "name": "N", "power_level_content_override": levels });
    assert_eq!(create(wanted).await, "400 M_INVALID_ROOM_STATE");
    let invite = json!([{
        "type": "m.room.member", "state_key": "@bob:localhost", "content": { "membership": "invite" },
    }]);
    assert_eq!(create(json!({ "initial_state": invite })).await, "400 M_INVALID_PARAM");
    // Who sets the level of one event has not opened the room to be replaced by anybody.
    for (events, expected) in [(json!({ "m.x": 1 }), 150), (json!({ "m.room.tombstone": 7 }), 7)] {
        let wanted = json!({ "room_version": "12", "power_level_content_override": { "events": events } });
        let room = create(wanted).await["room_id"].as_str().unwrap().to_owned();
        let path = format!("GET /rooms/{room}/state/m.room.power_levels/");
        let levels = world.server.met(&world.alice, &path, Value::Null).await;
        assert_eq!(levels["events"]["m.room.tombstone"], expected, "{levels}");
    }
}
