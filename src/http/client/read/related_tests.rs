//! Events that others relate to.

use serde_json::{Value, json};

use crate::{
    account::Registration,
    history::{
        Boundary,
        tables::{RELATIONS, RelationRow},
    },
    http::client::testing::Server,
    limits::{RELATED_SENDERS_MAX, RELATION_KINDS_MAX},
    log::Commit,
    types::Position,
};

struct Scene {
    server: Server,
    alice: String,
    bob: String,
    room: String,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        Self { server, alice, bob, room }
    }

    async fn say(&self, token: &str, (name, relation): (&str, Option<(&str, &str)>)) -> String {
        let mut content = json!({ "msgtype": "m.text", "body": name });
        if let Some((rel_type, event_id)) = relation {
            content["m.relates_to"] = json!({ "rel_type": rel_type, "event_id": event_id });
        }
        let said = format!("PUT /rooms/{}/send/m.room.message/{name}", self.room);
        self.server.met(token, &said, content).await["event_id"].as_str().unwrap().to_owned()
    }

    fn query(filter: &Value) -> String {
        serde_html_form::to_string([("filter", filter.to_string())]).unwrap()
    }

    /// The texts of a page, oldest first.
    async fn messages(&self, filter: &Value, limit: usize) -> (Vec<String>, Value) {
        let query = format!("dir=f&limit={limit}&{}", Self::query(filter));
        let path = format!("GET /rooms/{}/messages?{query}", self.room);
        let page = self.server.met(&self.alice, &path, Value::Null).await;
        (bodies(&page["chunk"]), page["end"].clone())
    }
}

fn bodies(events: &Value) -> Vec<String> {
    // A timeline without events is left out.
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["content"]["body"].as_str().map(String::from)).collect()
}

#[tokio::test]
async fn events_are_wanted_for_what_relates_to_them() {
    let scene = Scene::new().await;
    let mut named = Vec::new();
    for name in ["one", "two", "three", "four"] {
        named.push(scene.say(&scene.alice, (name, None)).await);
    }
    scene.say(&scene.bob, ("five", Some(("m.thread", &named[0])))).await;
    scene.say(&scene.alice, ("six", Some(("m.thread", &named[1])))).await;
    let gone = scene.say(&scene.bob, ("seven", Some(("m.reference", &named[1])))).await;
    scene.say(&scene.bob, ("eight", Some(("m.reference", &named[2])))).await;
    let alice = ["@alice:localhost"];
    let cases = [
        (json!({ "related_by_rel_types": ["m.thread"] }), &["one", "two"][..]),
        (json!({ "related_by_rel_types": ["m.thread", "m.reference"] }), &["one", "two", "three"]),
        (json!({ "related_by_senders": alice }), &["two"]),
        (json!({ "related_by_senders": ["@bob:localhost"] }), &["one", "two", "three"]),
        (json!({ "related_by_senders": alice, "related_by_rel_types": ["m.reference"] }), &[]),
        (json!({ "related_by_rel_types": [] }), &[]),
        (json!({ "related_by_rel_types": ["m.thread"], "types": ["m.room.name"] }), &[]),
    ];
    for (filter, expected) in &cases {
        let (found, end) = scene.messages(filter, 50).await;
        assert_eq!(found, *expected, "{filter}");
        assert_eq!(end, Value::Null, "{filter}");
        let path =
            format!("GET /rooms/{}/context/{}?limit=40&{}", scene.room, named[3], Scene::query(filter));
        let around = scene.server.met(&scene.alice, &path, Value::Null).await;
        let mut before = bodies(&around["events_before"]);
        before.reverse();
        assert_eq!(before, *expected, "{filter}");
        let filter = json!({ "room": { "timeline": filter } });
        // As it is, and kept.
        let keep = "POST /user/@alice:localhost/filter";
        let kept = scene.server.met(&scene.alice, keep, filter.clone()).await["filter_id"].clone();
        let get = format!("GET /user/@alice:localhost/filter/{}", kept.as_str().unwrap());
        assert_eq!(scene.server.met(&scene.alice, &get, Value::Null).await, filter);
        for query in [Scene::query(&filter), format!("filter={}", kept.as_str().unwrap())] {
            let synced = scene.server.met(&scene.alice, &format!("GET /sync?{query}"), Value::Null).await;
            let timeline = &synced["rooms"]["join"][&scene.room]["timeline"]["events"];
            assert_eq!(bodies(timeline), *expected, "{filter}");
        }
    }
    // A page that is full goes on.
    let (found, end) = scene.messages(&cases[0].0, 1).await;
    assert!(found == ["one"] && end.is_string(), "{found:?} {end}");
    // What was redacted relates to nothing, and whom somebody ignores does not count for them.
    scene.server.met(&scene.bob, &format!("PUT /rooms/{}/redact/{gone}/r", scene.room), json!({})).await;
    let by_bob = json!({ "related_by_senders": ["@bob:localhost"] });
    assert_eq!(scene.messages(&by_bob, 50).await.0, ["one", "three"]);
    let ignored = json!({ "ignored_users": { "@bob:localhost": {} } });
    let put = "PUT /user/@alice:localhost/account_data/m.ignored_user_list";
    scene.server.met(&scene.alice, put, ignored).await;
    assert!(scene.messages(&by_bob, 50).await.0.is_empty());
    assert_eq!(scene.messages(&cases[0].0, 50).await.0, ["two"]);
}

#[tokio::test]
async fn a_relation_is_found_behind_many_of_others() {
    let scene = Scene::new().await;
    let root = scene.say(&scene.alice, ("one", None)).await;
    scene.say(&scene.alice, ("two", Some(("m.reference", &root)))).await;
    let row = RelationRow {
        event_id: ruma::owned_event_id!("$other"),
        event_type: String::from("m.room.message"),
        sender: ruma::owned_user_id!("@carol:localhost"),
        key: None,
    };
    let parent = ruma::OwnedEventId::try_from(root).unwrap();
    let mut commit = Commit::new();
    for number in 0..1_500 {
        let place = Boundary { position: Position(1), number };
        commit.put(&RELATIONS, &(parent.clone(), String::from("m.reference"), place), &row);
    }
    scene.server.app().log.commit(commit).await.unwrap();
    let by_alice = json!({ "related_by_senders": ["@alice:localhost"] });
    assert_eq!(scene.messages(&by_alice, 50).await.0, ["one"]);
}

#[tokio::test]
async fn a_filter_for_what_relates_has_bounds() {
    let scene = Scene::new().await;
    let root = scene.say(&scene.alice, ("one", None)).await;
    scene.say(&scene.alice, ("two", Some(("m.thread", &root)))).await;
    let kinds: Vec<_> = (0..=RELATION_KINDS_MAX).map(|number| format!("org.example.{number}")).collect();
    let senders: Vec<_> = (0..=RELATED_SENDERS_MAX).map(|number| format!("@u{number}:localhost")).collect();
    let refused = "400 M_INVALID_PARAM";
    for wide in [json!({ "related_by_rel_types": kinds }), json!({ "related_by_senders": senders })] {
        let query = format!("dir=b&{}", Scene::query(&wide));
        let of_sync = json!({ "room": { "timeline": wide } });
        let keep = "POST /user/@alice:localhost/filter";
        assert_eq!(
            scene.server.met(&scene.alice, keep, of_sync.clone()).await,
            refused,
            "kept, it is of no use"
        );
        let of_sync = Scene::query(&of_sync);
        for path in [format!("GET /rooms/{}/messages?{query}", scene.room), format!("GET /sync?{of_sync}")] {
            assert_eq!(scene.server.met(&scene.alice, &path, Value::Null).await, refused, "{path}");
        }
        let criteria = json!({ "search_term": "one", "filter": wide });
        let body = json!({ "search_categories": { "room_events": criteria } });
        assert_eq!(scene.server.met(&scene.alice, "POST /search", body).await, refused);
    }
    let often = json!({ "related_by_rel_types": vec!["m.thread"; 2 * RELATION_KINDS_MAX] });
    assert_eq!(scene.messages(&often, 50).await.0, ["one"]);
}
