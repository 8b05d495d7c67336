//! The endpoints from before `/sync`, over HTTP.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

/// A server with `@alice` and `@bob` in a room of hers, which the world may read.
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
        let setting = json!({ "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "world_readable" } });
        let make = json!({ "preset": "public_chat", "visibility": "public", "initial_state": [setting] });
        let room = server.met(&alice, "POST /createRoom", make).await["room_id"].as_str().unwrap().to_owned();
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        Self { server, alice, bob, room }
    }

    async fn say(&self, body: &str) -> String {
        let path = format!("PUT /rooms/{}/send/m.room.message/{body}", self.room);
        let said = self.server.met(&self.alice, &path, json!({ "body": body, "msgtype": "m.text" })).await;
        said["event_id"].as_str().unwrap().to_owned()
    }

    async fn get(&self, token: &str, path: &str) -> Value {
        self.server.met(token, &format!("GET {path}"), Value::Null).await
    }

    /// What is new after `from`, with the token of its end.
    async fn events(&self, token: &str, from: &str, rest: &str) -> (Vec<Value>, String) {
        let answer = self.get(token, &format!("/events?from={from}{rest}")).await;
        assert_eq!(
            answer["start"].as_str().map(|start| start.replace('t', "s")),
            Some(from.replace('t', "s"))
        );
        let chunk = answer["chunk"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let of_rooms = chunk.iter().filter(|event| event["type"] != "m.presence").cloned().collect();
        (of_rooms, answer["end"].as_str().unwrap().to_owned())
    }
}

fn bodies(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn the_first_page_and_what_comes_after_it() {
    let world = World::new().await;
    for body in ["one", "two", "three"] {
        world.say(body).await;
    }
    let first = world.get(&world.bob, "/initialSync?limit=2").await;
    let room = &first["rooms"][0];
    assert_eq!((&room["room_id"], &room["membership"]), (&json!(world.room), &json!("join")));
    assert_eq!(room["visibility"], "public");
    assert_eq!(bodies(room["messages"]["chunk"].as_array().unwrap()), ["two", "three"]);
    let state = room["state"].as_array().unwrap();
    let names =
        |kind: &str| state.iter().any(|event| event["type"] == kind && event["room_id"] == world.room);
    assert!(names("m.room.create") && names("m.room.member"), "{state:#?}");
    let start = room["messages"]["start"].as_str().unwrap();
    let older =
        world.get(&world.bob, &format!("/rooms/{}/messages?dir=b&limit=1&from={start}", world.room)).await;
    assert_eq!(bodies(older["chunk"].as_array().unwrap()), ["one"]);

    let end = first["end"].as_str().unwrap();
    assert_eq!(world.events(&world.bob, end, "").await.0, Vec::<Value>::new());
    world.say("four").await;
    world.server.met(&world.alice, "POST /createRoom", json!({ "invite": ["@bob:localhost"] })).await;
    let (news, next) = world.events(&world.bob, end, "&timeout=10000").await;
    assert_eq!(bodies(&news), ["four"]);
    assert!(news.iter().any(|event| event["content"]["membership"] == "invite"), "{news:#?}");
    let (news, _) = world.events(&world.bob, &next, "").await;
    assert_eq!(bodies(&news), Vec::<&str>::new());
    let rooms = world.get(&world.bob, "/initialSync").await["rooms"].clone();
    let invited = rooms.as_array().unwrap().iter().find(|room| room["membership"] == "invite").unwrap();
    assert_eq!(invited["invite"]["state_key"], "@bob:localhost");
}

#[tokio::test]
async fn rooms_that_were_left_are_told_of_when_they_are_asked_for() {
    let world = World::new().await;
    world.server.met(&world.bob, &format!("POST /rooms/{}/leave", world.room), json!({})).await;
    let without = world.get(&world.bob, "/initialSync").await;
    assert_eq!(without["rooms"], json!([]));
    let with = world.get(&world.bob, "/initialSync?archived=true").await;
    assert_eq!(with["rooms"][0]["membership"], "leave", "{with}");
}

#[tokio::test]
async fn what_is_for_the_device_stays_until_a_sync_has_it() {
    let world = World::new().await;
    let from = world.get(&world.bob, "/initialSync").await["end"].as_str().unwrap().to_owned();
    let body = json!({ "messages": { "@bob:localhost": { "PHONE": { "n": 1 } } } });
    world.server.met(&world.alice, "PUT /sendToDevice/m.x/1", body).await;
    let (_, next) = world.events(&world.bob, &from, "").await;
    let (_, next) = world.events(&world.bob, &next, "").await;
    world.events(&world.bob, &next, "").await;
    let page = world.get(&world.bob, "/sync").await;
    assert_eq!(page["to_device"]["events"][0]["content"], json!({ "n": 1 }));
}

#[tokio::test]
async fn one_room_can_be_followed_by_those_who_may_read_it() {
    let world = World::new().await;
    let eve = world.server.register("eve").await;
    world.say("one").await;
    let path = format!("/rooms/{}/initialSync", world.room);
    let told = world.get(&eve, &path).await;
    assert_eq!((&told["membership"], &told["visibility"]), (&json!("leave"), &json!("public")));
    assert_eq!(bodies(told["messages"]["chunk"].as_array().unwrap()), ["one"]);
    assert!(told["state"].as_array().unwrap().len() > 5, "{told}");
    assert_eq!(world.get(&world.bob, &path).await["membership"], "join");
    let end = told["messages"]["end"].as_str().unwrap().to_owned();
    let only = format!("&room_id={}", world.room);
    assert_eq!(world.events(&eve, &end, &only).await.0, Vec::<Value>::new());
    let follow = format!("{only}&timeout=20000");
    let (followed, _) = tokio::join!(world.events(&eve, &end, &follow), world.say("two"));
    assert_eq!(bodies(&followed.0), ["two"]);
    assert_eq!(world.events(&eve, &followed.1, &only).await.0, Vec::<Value>::new());

    let close = format!("PUT /rooms/{}/state/m.room.history_visibility/", world.room);
    world.server.met(&world.alice, &close, json!({ "history_visibility": "joined" })).await;
    assert_eq!(world.get(&eve, &path).await, "403 M_FORBIDDEN");
    assert_eq!(world.get(&eve, &format!("/events?from={end}{only}")).await, "403 M_FORBIDDEN");
    assert_eq!(world.get(&eve, "/events?from=s99999999").await, "400 M_INVALID_PARAM");
}

#[tokio::test]
async fn one_event_is_shown_to_those_who_may_see_it() {
    let world = World::new().await;
    let close = format!("PUT /rooms/{}/state/m.room.history_visibility/", world.room);
    world.server.met(&world.alice, &close, json!({ "history_visibility": "joined" })).await;
    let eve = world.server.register("eve").await;
    let path = format!("/events/{}", world.say("one").await);
    assert_eq!(world.get(&world.bob, &path).await["content"]["body"], "one");
    assert_eq!(world.get(&eve, &path).await, "404 M_NOT_FOUND");
    assert_eq!(world.get(&eve, "/events/$nothing").await, "404 M_NOT_FOUND");
    assert_eq!(world.get(&eve, "/events/nothing").await, "400 M_INVALID_PARAM");
}
