//! What is told with an event, and around it.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, UInt, owned_event_id, owned_user_id, user_id};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    account::Registration,
    history::{
        Boundary,
        tables::{PARTIAL, PartialRow, RELATIONS, RelationRow},
    },
    http::client::testing::Server,
    limits::RELATIONS_BUNDLED_MAX,
    log::Commit,
    room::Message,
    types::Position,
};

struct Scene {
    server: Server,
    alice: String,
    bob: String,
    room: String,
    number: std::cell::Cell<u64>,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        Self { server, alice, bob, room, number: Default::default() }
    }

    async fn say(&self, token: &str, content: Value) -> String {
        self.number.set(self.number.get() + 1);
        let path = format!("PUT /rooms/{}/send/m.room.message/{}", self.room, self.number.get());
        self.server.met(token, &path, content).await["event_id"].as_str().unwrap().to_owned()
    }

    async fn reply(&self, token: &str, root: &str) -> String {
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        self.say(token, json!({ "body": "reply", "m.relates_to": relation })).await
    }

    /// An edit by alice that says it was made at `ts`.
    async fn edit(&self, root: &str, ts: u32) -> String {
        let content = json!({
            "body": "edit", "m.new_content": { "body": ts },
            "m.relates_to": { "rel_type": "m.replace", "event_id": root },
        });
        let content = to_raw_value(&content).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        let rooms = self.server.app().rooms.dated(Some(MilliSecondsSinceUnixEpoch(UInt::from(ts))));
        let room = self.room.as_str().try_into().unwrap();
        rooms.send(user_id!("@alice:localhost"), room, message).await.unwrap().to_string()
    }

    /// Has the index say that carol has related something to `root`, so many times.
    async fn relate(&self, root: &str, kind: &str, (position, count): (Position, usize)) {
        let row = RelationRow {
            event_id: owned_event_id!("$other"),
            event_type: String::from("m.room.message"),
            sender: owned_user_id!("@carol:localhost"),
            key: None,
        };
        let root = OwnedEventId::try_from(root).unwrap();
        let mut commit = Commit::new();
        for number in 0..u64::try_from(count).unwrap() {
            let place = Boundary { position, number };
            commit.put(&RELATIONS, &(root.clone(), String::from(kind), place), &row);
        }
        self.server.app().log.commit(commit).await.unwrap();
    }

    async fn relations(&self, event: &str) -> Value {
        let path = format!("GET /rooms/{}/event/{event}", self.room);
        self.server.met(&self.bob, &path, Value::Null).await["unsigned"]["m.relations"].clone()
    }

    async fn threads(&self, token: &str, query: &str) -> Vec<Value> {
        let path = format!("GET /_matrix/client/v1/rooms/{}/threads?{query}", self.room);
        self.server.met(token, &path, Value::Null).await["chunk"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn the_latest_edit_is_the_one_that_says_so() {
    let scene = Scene::new().await;
    let root = scene.say(&scene.alice, json!({ "body": "x" })).await;
    let late = scene.edit(&root, 2_000).await;
    scene.edit(&root, 1_000).await;
    assert_eq!(scene.relations(&root).await["m.replace"]["event_id"], late.as_str());
    let other = scene.say(&scene.alice, json!({ "body": "y" })).await;
    let mut edits = Vec::new();
    for _ in 0..4 {
        edits.push(scene.edit(&other, 3_000).await);
    }
    assert_eq!(scene.relations(&other).await["m.replace"]["event_id"], *edits.iter().max().unwrap());
    // However many others claim to have edited it.
    let beyond = Position(1_000_000);
    scene.relate(&root, "m.replace", (beyond, RELATIONS_BUNDLED_MAX + 10)).await;
    assert_eq!(scene.relations(&root).await["m.replace"]["event_id"], late.as_str());
}

#[tokio::test]
async fn a_thread_that_somebody_had_a_part_in_long_ago_is_theirs() {
    let scene = Scene::new().await;
    let root = scene.say(&scene.alice, json!({ "body": "x" })).await;
    let own = OwnedEventId::try_from(scene.reply(&scene.bob, &root).await).unwrap();
    scene.say(&scene.alice, json!({ "body": "between" })).await;
    scene.reply(&scene.alice, &root).await;
    let position = scene.server.app().history.event(&own).await.unwrap().unwrap().position;
    let after = (Position(position.0 + 1), RELATIONS_BUNDLED_MAX + 10);
    scene.relate(&root, "m.thread", after).await;
    let found = scene.threads(&scene.bob, "include=participated").await;
    assert_eq!(found.len(), 1);
    let thread = &found[0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!(thread["current_user_participated"], true, "{thread}");
}

#[tokio::test]
async fn a_thread_of_somebody_who_is_ignored_has_lost_its_beginning() {
    let scene = Scene::new().await;
    let root = scene.say(&scene.alice, json!({ "body": "secret", "msgtype": "m.text" })).await;
    scene.edit(&root, 1).await;
    let reply = scene.reply(&scene.bob, &root).await;
    let ignored = json!({ "ignored_users": { "@alice:localhost": {} } });
    let put = "PUT /user/@bob:localhost/account_data/m.ignored_user_list";
    scene.server.met(&scene.bob, put, ignored).await;
    let found = scene.threads(&scene.bob, "").await;
    assert_eq!((found.len(), &found[0]["event_id"]), (1, &json!(root)));
    assert_eq!(found[0]["content"], json!({}));
    let relations = &found[0]["unsigned"]["m.relations"];
    assert_eq!(relations["m.thread"]["latest_event"]["event_id"], reply.as_str());
    assert!(relations["m.replace"].is_null(), "{relations}");
    let own = scene.threads(&scene.alice, "").await;
    assert_eq!(own[0]["content"]["body"], "secret");
}

#[tokio::test]
async fn the_state_around_an_event_is_whole_but_for_the_members() {
    let scene = Scene::new().await;
    let said = scene.say(&scene.alice, json!({ "body": "x" })).await;
    let around = async |filter: Value| {
        let query = serde_html_form::to_string([("filter", filter.to_string())]).unwrap();
        let path = format!("GET /rooms/{}/context/{said}?limit=0&{query}", scene.room);
        let answer = scene.server.met(&scene.alice, &path, Value::Null).await;
        let place = |event: &Value| (event["type"].clone(), event["state_key"].clone());
        let state = answer["state"].as_array().unwrap_or_else(|| panic!("{answer}"));
        state.iter().map(place).collect::<Vec<_>>()
    };
    let member = |name: &str| (json!("m.room.member"), json!(format!("@{name}:localhost")));
    let all = around(json!({})).await;
    assert!(all.contains(&member("alice")) && all.contains(&member("bob")), "{all:?}");
    let lazy = around(json!({ "lazy_load_members": true })).await;
    assert_eq!(lazy.len(), all.len() - 1, "{lazy:?}");
    assert!(lazy.contains(&member("alice")) && !lazy.contains(&member("bob")), "{lazy:?}");
    let rules = around(json!({ "types": ["m.room.join_rules"] })).await;
    assert_eq!(rules, [(json!("m.room.join_rules"), json!(""))]);
}

#[tokio::test]
async fn members_are_asked_for_by_what_they_are_or_are_not() {
    let scene = Scene::new().await;
    for name in ["carol", "dan"] {
        let invite = json!({ "user_id": format!("@{name}:localhost") });
        scene.server.met(&scene.alice, &format!("POST /rooms/{}/invite", scene.room), invite).await;
    }
    let kick = json!({ "user_id": "@dan:localhost" });
    scene.server.met(&scene.alice, &format!("POST /rooms/{}/kick", scene.room), kick).await;
    let count = async |query: &str| {
        let path = format!("GET /rooms/{}/members?{query}", scene.room);
        scene.server.met(&scene.alice, &path, Value::Null).await["chunk"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("", 4),
        ("membership=join", 2),
        ("not_membership=join", 2),
        ("membership=join&not_membership=leave", 3),
        ("membership=leave&not_membership=leave", 4),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
}

/// What is not known of a room yet keeps nobody waiting who may not look into it.
#[tokio::test(start_paused = true)]
async fn who_may_not_look_into_a_room_does_not_wait_for_it() {
    let scene = Scene::new().await;
    let eve = scene.server.register("eve").await;
    let room = ruma::OwnedRoomId::try_from(scene.room.as_str()).unwrap();
    let row = PartialRow {
        join: owned_event_id!("$join"),
        origin: ruma::owned_server_name!("b.org"),
        servers: Default::default(),
        leavers: Default::default(),
    };
    let mut commit = Commit::new();
    commit.put(&PARTIAL, &(room.clone(),), &row);
    scene.server.app().log.commit(commit).await.unwrap();
    for path in ["members", "state", "initialSync"] {
        let path = format!("GET /rooms/{room}/{path}");
        assert_eq!(scene.server.met(&eve, &path, Value::Null).await, "403 M_FORBIDDEN", "{path}");
    }
}
