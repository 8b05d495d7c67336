//! Who finds which messages.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

struct Scene {
    server: Server,
    alice: String,
    bob: String,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        Self { server, alice, bob }
    }

    async fn room(&self, wanted: Value) -> String {
        let made = self.server.met(&self.alice, "POST /createRoom", wanted).await;
        made["room_id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    async fn say(&self, token: &str, room: &str, content: Value) -> String {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = format!("PUT /rooms/{room}/send/m.room.message/t{number}");
        let said = self.server.met(token, &path, content).await;
        said["event_id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    async fn tell(&self, room: &str, body: &str) -> String {
        self.say(&self.alice, room, json!({ "msgtype": "m.text", "body": body })).await
    }

    /// The answer to a search with what `more` says beside the term.
    async fn search(&self, token: &str, term: &str, (query, more): (&str, Value)) -> Value {
        let mut criteria = json!({ "search_term": term });
        criteria.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({ "search_categories": { "room_events": criteria } });
        let found = self.server.met(token, &format!("POST /search{query}"), body).await;
        match found.is_string() {
            true => found,
            false => found["search_categories"]["room_events"].clone(),
        }
    }

    /// The texts that are found by a term, those said first first.
    async fn check(&self, token: &str, term: &str, (more, expected): (Value, &[&str])) {
        let mut more = more;
        more["order_by"] = "recent".into();
        let found = self.search(token, term, ("", more)).await;
        let mut met = texts(&found);
        met.reverse();
        assert_eq!(met, expected, "{term}");
        assert_eq!(found["count"], expected.len(), "{term}");
    }
}

fn texts(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().unwrap_or_else(|| panic!("{found}"));
    let text = |result: &Value| {
        let content = &result["result"]["content"];
        let text = ["body", "name", "topic"].iter().find_map(|name| content[name].as_str());
        text.unwrap_or_default().to_owned()
    };
    results.iter().map(text).collect()
}

#[tokio::test]
async fn messages_are_found_by_their_words_in_any_script() {
    let scene = Scene::new().await;
    let room = scene.room(json!({ "name": "The Lounge", "topic": "Small talk" })).await;
    for body in [
        "Hello, World",
        "hello there",
        "Größe und Würde",
        "我喜欢黑猫和咖啡",
        "東京に行きます",
        "커피를 마셔요",
    ] {
        scene.tell(&room, body).await;
    }
    let all = || json!({});
    let topic = json!({
        "topic": "Feathers", "m.topic": { "m.text": [
            { "mimetype": "text/html", "body": "<b>plumage</b>" }, { "body": "Feathers and wings" },
        ] },
    });
    let path = format!("PUT /rooms/{room}/state/m.room.topic");
    assert!(scene.server.met(&scene.alice, &path, topic).await["event_id"].is_string());
    for (term, expected) in [
        ("wings", &["Feathers"][..]),
        ("plumage", &[]),
        ("hello", &["Hello, World", "hello there"][..]),
        ("HELLO world", &["Hello, World"]),
        ("\"hello world\"", &["Hello, World"]),
        ("\"world hello\"", &[]),
        ("wurde", &["Größe und Würde"]),
        ("hell", &[]),
        ("黑猫", &["我喜欢黑猫和咖啡"]),
        ("喜欢黑猫", &["我喜欢黑猫和咖啡"]),
        ("猫", &["我喜欢黑猫和咖啡"]),
        ("啡", &["我喜欢黑猫和咖啡"]),
        ("猫黑", &[]),
        ("東京", &["東京に行きます"]),
        ("커피", &["커피를 마셔요"]),
        ("lounge", &["The Lounge"]),
        ("small", &["Small talk"]),
        ("", &[]),
        ("!!", &[]),
    ] {
        scene.check(&scene.alice, term, (all(), expected)).await;
    }
    scene.check(&scene.alice, "lounge", (json!({ "keys": ["content.body"] }), &[])).await;
    scene.check(&scene.alice, "lounge", (json!({ "keys": ["content.name"] }), &["The Lounge"])).await;
    let found = scene.search(&scene.alice, "wurde", ("", json!({}))).await;
    assert_eq!(found["highlights"], json!(["würde"]));
    assert!(found["results"][0]["rank"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn only_what_the_searcher_may_see_is_found_and_counted() {
    let scene = Scene::new().await;
    let Scene { server, alice, bob } = &scene;
    let room = scene
        .room(json!({ "preset": "public_chat", "initial_state": [{
        "type": "m.room.history_visibility", "state_key": "", "content": { "history_visibility": "joined" },
    }] }))
        .await;
    let secret = scene.tell(&room, "secret one").await;
    scene.check(bob, "secret", (json!({}), &[])).await;
    server.met(bob, &format!("POST /join/{room}"), json!({})).await;
    scene.check(bob, "secret", (json!({}), &[])).await;
    scene.tell(&room, "secret two").await;
    scene.check(bob, "secret", (json!({}), &["secret two"])).await;
    scene.check(alice, "secret", (json!({}), &["secret one", "secret two"])).await;
    server.met(bob, &format!("POST /rooms/{room}/leave"), json!({})).await;
    scene.tell(&room, "secret three").await;
    scene.check(bob, "secret", (json!({}), &["secret two"])).await;
    server.met(bob, &format!("POST /rooms/{room}/forget"), json!({})).await;
    scene.check(bob, "secret", (json!({}), &[])).await;
    server.met(alice, &format!("PUT /rooms/{room}/redact/{secret}/1"), json!({})).await;
    scene.check(alice, "secret", (json!({}), &["secret two", "secret three"])).await;
    server.met(bob, &format!("POST /join/{room}"), json!({})).await;
    scene.tell(&room, "hush").await;
    let ignoring = json!({ "ignored_users": { "@alice:localhost": {} } });
    server.met(bob, "PUT /user/@bob:localhost/account_data/m.ignored_user_list", ignoring).await;
    scene.check(bob, "hush", (json!({}), &[])).await;
}

#[tokio::test]
async fn rooms_and_senders_are_picked_and_predecessors_come_with_their_successors() {
    let scene = Scene::new().await;
    let Scene { server, alice, bob } = &scene;
    let old = scene.room(json!({ "preset": "public_chat" })).await;
    let other = scene.room(json!({})).await;
    server.met(bob, &format!("POST /join/{old}"), json!({})).await;
    scene.tell(&old, "apple a").await;
    scene.say(bob, &old, json!({ "msgtype": "m.text", "body": "apple b" })).await;
    scene.tell(&other, "apple c").await;
    let new = server.met(alice, &format!("POST /rooms/{old}/upgrade"), json!({ "new_version": "11" })).await;
    let new = new["replacement_room"].as_str().unwrap().to_owned();
    scene.tell(&new, "apple d").await;
    let filter = |filter: Value| json!({ "filter": filter });
    for (filter, expected) in [
        (filter(json!({})), &["apple a", "apple b", "apple c", "apple d"][..]),
        (filter(json!({ "rooms": [other] })), &["apple c"]),
        (filter(json!({ "rooms": [new] })), &["apple a", "apple b", "apple d"]),
        (filter(json!({ "not_rooms": [old, new] })), &["apple c"]),
        (filter(json!({ "senders": ["@bob:localhost"] })), &["apple b"]),
        (filter(json!({ "not_senders": ["@alice:localhost"] })), &["apple b"]),
        (filter(json!({ "rooms": ["!nowhere:localhost"] })), &[]),
        (filter(json!({ "types": ["m.room.topic"] })), &[]),
    ] {
        scene.check(alice, "apple", (filter, expected)).await;
    }
    let grouped = json!({ "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] } });
    let found = scene.search(alice, "apple", ("", grouped)).await;
    assert_eq!(found["groups"]["room_id"].as_object().unwrap().len(), 3);
    assert_eq!(found["groups"]["sender"]["@bob:localhost"]["results"].as_array().unwrap().len(), 1);
    let found = scene.search(alice, "apple", ("", json!({ "include_state": true }))).await;
    assert!(found["state"][&other].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn pages_cover_everything_once_and_tell_what_was_said_around() {
    let scene = Scene::new().await;
    let room = scene.room(json!({})).await;
    for number in 0..23 {
        scene.tell(&room, &format!("message number {number}")).await;
    }
    for order in ["recent", "rank"] {
        let (mut met, mut query, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let more = json!({ "order_by": order, "filter": { "limit": 10 } });
            let found = scene.search(&scene.alice, "message", (&query, more)).await;
            assert_eq!(found["count"], 23);
            met.extend(texts(&found));
            let Some(next) = found["next_batch"].as_str() else { break };
            query = format!("?next_batch={next}");
            pages += 1;
            assert!(pages < 4, "there are three pages and an empty one, which is the end");
        }
        let mut once = met.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((met.len(), once.len()), (23, 23), "{order}");
        if order == "recent" {
            assert_eq!(met[0], "message number 22");
        }
    }
    let strange = scene.search(&scene.alice, "message", ("?next_batch=x", json!({}))).await;
    assert_eq!(strange, "400 M_INVALID_PARAM");
    let context = json!({ "before_limit": 2, "after_limit": 2, "include_profile": true });
    let found = scene.search(&scene.alice, "message 4", ("", json!({ "event_context": context }))).await;
    let context = &found["results"][0]["context"];
    let bodies = |name: &str| -> Vec<String> {
        let events = context[name].as_array().unwrap();
        events.iter().map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(bodies("events_before"), ["message number 3", "message number 2"]);
    assert_eq!(bodies("events_after"), ["message number 5", "message number 6"]);
    assert_eq!(context["profile_info"]["@alice:localhost"]["displayname"], "alice");
    assert!(context["start"].is_string() && context["end"].is_string());
    let found = scene.search(&scene.alice, "message 4", ("", json!({}))).await;
    assert_eq!(found["results"][0]["context"], Value::Null);
}

#[tokio::test]
async fn edits_are_found_by_what_they_say_and_encrypted_events_not_at_all() {
    let scene = Scene::new().await;
    let room = scene.room(json!({})).await;
    let first = scene.tell(&room, "the draft").await;
    let edit = json!({
        "msgtype": "m.text", "body": "* the result",
        "m.new_content": { "msgtype": "m.text", "body": "the result" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first },
    });
    scene.say(&scene.alice, &room, edit).await;
    let found = scene.search(&scene.alice, "result", ("", json!({}))).await;
    assert_eq!(texts(&found), ["* the result"]);
    let path = format!("PUT /rooms/{room}/send/m.room.encrypted/1");
    scene.server.met(&scene.alice, &path, json!({ "body": "hidden result", "ciphertext": "hidden" })).await;
    scene.check(&scene.alice, "hidden", (json!({}), &[])).await;
}

#[tokio::test]
async fn what_relates_to_messages_and_who_is_needed_is_asked_as_elsewhere() {
    let scene = Scene::new().await;
    let Scene { server, alice, bob } = &scene;
    let room = scene.room(json!({ "preset": "public_chat" })).await;
    server.met(bob, &format!("POST /join/{room}"), json!({})).await;
    let mut named = Vec::new();
    for name in ["one", "two", "three"] {
        named.push(scene.tell(&room, &format!("plum {name}")).await);
    }
    let relate = |kind: &str, to: &str, name: &str| {
        json!({
            "msgtype": "m.text", "body": format!("plum {name}"),
            "m.relates_to": { "rel_type": kind, "event_id": to },
        })
    };
    scene.say(bob, &room, relate("m.thread", &named[0], "four")).await;
    let gone = scene.say(alice, &room, relate("m.thread", &named[1], "five")).await;
    scene.say(bob, &room, relate("m.reference", &named[2], "six")).await;
    let own = json!(["@alice:localhost"]);
    let filter = |filter: Value| json!({ "filter": filter });
    for (wanted, expected) in [
        (json!({ "related_by_rel_types": ["m.thread"] }), &["plum one", "plum two"][..]),
        (json!({ "related_by_senders": own }), &["plum two"]),
        (json!({ "related_by_senders": own, "related_by_rel_types": ["m.reference"] }), &[]),
        (json!({ "related_by_rel_types": [] }), &[]),
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), &["plum four", "plum five"]),
        (
            json!({ "org.matrix.msc3874.not_rel_types": ["m.thread"], "senders": ["@bob:localhost"] }),
            &["plum six"],
        ),
    ] {
        scene.check(alice, "plum", (filter(wanted), expected)).await;
    }
    server.met(alice, &format!("PUT /rooms/{room}/redact/{gone}/r"), json!({})).await;
    scene.check(alice, "plum", (filter(json!({ "related_by_senders": own })), &[])).await;

    let members = async |term: &str, more: Value| -> Vec<String> {
        let found = scene.search(alice, term, ("", more)).await;
        let state = found["state"][&room].as_array().unwrap_or_else(|| panic!("{found}"));
        assert!(state.iter().any(|event| event["type"] == "m.room.create"));
        let members = state.iter().filter(|event| event["type"] == "m.room.member");
        members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect()
    };
    let (both, only) = (["@alice:localhost", "@bob:localhost"], ["@alice:localhost"]);
    let lazy = json!({ "include_state": true, "filter": { "lazy_load_members": true } });
    assert_eq!(members("plum one", json!({ "include_state": true })).await, both);
    assert_eq!(members("plum one", lazy.clone()).await, only);
    let mut around = lazy;
    around["event_context"] = json!({ "after_limit": 3 });
    assert_eq!(members("plum one", around).await, both);
}
