//! Delayed events as clients see them; the clock is the machine's.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

const LONG: &str = "org.matrix.msc4140.delay=100000";
const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140";

struct World {
    server: Server,
    alice: String,
    bob: String,
    room: String,
}

impl World {
    async fn new() -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let created = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = created["room_id"].as_str().unwrap().to_owned();
        Self { server, alice, bob, room }
    }

    /// Schedules `content` as `alice` in the dialect of today; the id.
    async fn schedule(&self, path: &str, query: &str, content: Value) -> String {
        let path = format!("PUT /rooms/{}/{path}?{query}", self.room);
        let answer = self.server.met(&self.alice, &path, content).await;
        answer["delay_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn act(&self, id: &str, action: &str) -> Value {
        self.server.met("", &format!("POST {UNSTABLE}/delayed_events/{id}/{action}"), json!({})).await
    }

    async fn look(&self, id: &str) -> Value {
        self.server.met(&self.alice, &format!("GET {UNSTABLE}/delayed_events/{id}"), Value::Null).await
    }

    async fn listed(&self, token: &str) -> Vec<String> {
        let answer = self.server.met(token, "GET /_matrix/client/v1/delayed_events", Value::Null).await;
        let found = answer["delayed_events"].as_array().unwrap_or_else(|| panic!("{answer}"));
        found.iter().map(|event| event["delay_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn state(&self, key: &str) -> Value {
        self.server.met(&self.alice, &format!("GET /rooms/{}/state/m.x/{key}", self.room), Value::Null).await
    }
}

#[tokio::test]
async fn who_knows_the_id_decides_what_becomes_of_it() {
    let world = World::new().await;
    let sent = world.schedule("state/m.x/sent", LONG, json!({ "n": 1 })).await;
    let cancelled =
        world.schedule("state/m.x/cancelled", "org.matrix.msc4140.delay=200000", json!({ "n": 2 })).await;
    assert_eq!(world.listed(&world.alice).await, [sent.clone(), cancelled.clone()]);
    assert!(world.listed(&world.bob).await.is_empty());
    assert_eq!(world.state("sent").await, "404 M_NOT_FOUND");
    assert_eq!(world.act(&sent, "restart").await, json!({}));
    for _ in 0..2 {
        assert_eq!(world.act(&sent, "send").await, json!({}), "again is no mistake");
        assert_eq!(world.act(&cancelled, "cancel").await, json!({}), "again is no mistake");
    }
    for (id, action) in [(&sent, "cancel"), (&sent, "restart"), (&cancelled, "send"), (&cancelled, "restart")]
    {
        assert_eq!(world.act(id, action).await, "409 M_UNKNOWN", "{action}");
    }
    assert_eq!(world.state("sent").await, json!({ "n": 1 }));
    assert_eq!(world.state("cancelled").await, "404 M_NOT_FOUND");
    assert!(world.listed(&world.alice).await.is_empty());
    let (one, other) = (world.look(&sent).await, world.look(&cancelled).await);
    assert!(one["event_id"].is_string() && one["finalised_ts"].is_u64(), "{one}");
    assert!(other["event_id"].is_null() && other["finalised_ts"].is_u64(), "{other}");
    assert_eq!(
        (&one["content"], &one["state_key"], &one["delay_ms"]),
        (&json!({ "n": 1 }), &json!("sent"), &json!(100_000))
    );
    assert!(one["scheduled_at"].is_u64() && one["scheduled_at"] == one["running_since"], "{one}");
    // The event tells its sender, and nobody else, by which id it was known.
    world.server.met(&world.bob, &format!("POST /join/{}", world.room), json!({})).await;
    let path = format!("GET /rooms/{}/event/{}", world.room, one["event_id"].as_str().unwrap());
    let told = async |token: &str| world.server.met(token, &path, Value::Null).await["unsigned"].clone();
    let unsigned = told(&world.alice).await;
    for name in ["delay_id", "org.matrix.msc4140.delay_id"] {
        assert_eq!(unsigned[name], sent.as_str(), "{unsigned}");
    }
    let unsigned = told(&world.bob).await;
    assert!(unsigned.is_object() && !unsigned.to_string().contains(&sent), "{unsigned}");
    let path = format!("GET {UNSTABLE}/delayed_events/{sent}");
    assert_eq!(world.server.met(&world.bob, &path, Value::Null).await, "404 M_NOT_FOUND");
}

#[tokio::test]
async fn the_accepted_dialect_and_the_old_one_mean_the_same() {
    let world = World::new().await;
    let path = format!("PUT /_matrix/client/v1/rooms/{}/delayed_event/m.room.message/t", world.room);
    let body = json!({ "delay_ms": 100_000, "content": { "body": "later" } });
    let first = world.server.met(&world.alice, &path, body.clone()).await;
    assert_eq!(world.server.met(&world.alice, &path, body).await, first, "a transaction takes effect once");
    let old = world.schedule("send/m.room.message/u", LONG, json!({ "body": "later" })).await;
    assert_eq!(world.schedule("send/m.room.message/u", LONG, Value::Null).await, old);
    assert_eq!(world.listed(&world.alice).await.len(), 2);
    let by_body = format!("POST {UNSTABLE}/delayed_events/{old}");
    world.server.check("", &by_body, (json!({ "action": "send" }), json!({}))).await;
    let event = world.look(&old).await["event_id"].as_str().unwrap().to_owned();
    let path = format!("GET /rooms/{}/event/{event}", world.room);
    assert_eq!(
        world.server.met(&world.alice, &path, Value::Null).await["content"],
        json!({ "body": "later" })
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = World::new().await;
    let room = &world.room;
    let id = world.schedule("send/m.x/a", LONG, json!({})).await;
    let v1 = format!("PUT /_matrix/client/v1/rooms/{room}/delayed_event/m.x/t");
    let send = |query: &str| format!("PUT /rooms/{room}/send/m.x/b?org.matrix.msc4140.delay={query}");
    let (alice, bob) = (world.alice.as_str(), world.bob.as_str());
    for (token, request, body, expected) in [
        (alice, v1.clone(), json!({ "content": {} }), "400 M_MISSING_PARAM"),
        (alice, v1.clone(), json!({ "delay_ms": 1 }), "400 M_MISSING_PARAM"),
        (alice, v1.clone(), json!({ "delay_ms": -1, "content": {} }), "400 M_BAD_JSON"),
        (alice, v1.clone(), json!({ "delay_ms": 1, "content": [] }), "400 M_BAD_JSON"),
        (alice, v1.clone(), json!({ "delay_ms": 9_999_999_999_u64, "content": {} }), "403 M_FORBIDDEN"),
        (bob, v1.clone(), json!({ "delay_ms": 1, "content": {} }), "403 M_FORBIDDEN"),
        ("", v1.clone(), json!({ "delay_ms": 1, "content": {} }), "401 M_MISSING_TOKEN"),
        (alice, send("soon"), json!({}), "400 M_INVALID_PARAM"),
        (alice, send("9999999999"), json!({}), "403 M_FORBIDDEN"),
        ("", format!("POST {UNSTABLE}/delayed_events/{id}"), json!({}), "400 M_MISSING_PARAM"),
        ("", format!("POST {UNSTABLE}/delayed_events/{id}"), json!({ "action": "x" }), "400 M_INVALID_PARAM"),
        ("", format!("POST {UNSTABLE}/delayed_events/{id}/x"), json!({}), "404 M_UNRECOGNIZED"),
        ("", format!("POST {UNSTABLE}/delayed_events/x/cancel"), json!({}), "404 M_NOT_FOUND"),
        (alice, format!("GET {UNSTABLE}/delayed_events/x"), Value::Null, "404 M_NOT_FOUND"),
    ] {
        world.server.check(token, &request, (body, json!(expected))).await;
    }
    assert_eq!(world.listed(alice).await, [id]);
}

#[tokio::test]
async fn what_the_room_does_not_take_yet_waits_on() {
    let world = World::new().await;
    world.server.met(&world.bob, &format!("POST /join/{}", world.room), json!({})).await;
    let path = format!("PUT /rooms/{}/state/m.x/?{LONG}", world.room);
    let answer = world.server.met(&world.bob, &path, json!({})).await;
    let id = answer["delay_id"].as_str().unwrap();
    assert_eq!(world.act(id, "send").await, "403 M_FORBIDDEN");
    let path = format!("GET {UNSTABLE}/delayed_events/{id}");
    let row = world.server.met(&world.bob, &path, Value::Null).await;
    assert!(row["error"].is_null() && row["finalised_ts"].is_null(), "{row}");
    let levels = format!("PUT /rooms/{}/state/m.room.power_levels/", world.room);
    world.server.met(&world.alice, &levels, json!({ "users": { "@bob:localhost": 100 } })).await;
    assert_eq!(world.act(id, "send").await, json!({}));
}
