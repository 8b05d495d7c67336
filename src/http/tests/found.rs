//! Mistakes that the random users of `model` have found, each by itself.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

struct Scene {
    server: Server,
    alice: String,
    bob: String,
    room: String,
    txns: std::cell::Cell<u32>,
}

impl Scene {
    /// A room of alice's with bob in it.
    async fn new(wanted: Value) -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let mut body = json!({ "preset": "public_chat" });
        body.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
        let room = server.met(&alice, "POST /createRoom", body).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        let scene = Self { server, alice, bob, room, txns: std::cell::Cell::new(0) };
        scene.at_room(&scene.bob, "POST join", json!({})).await;
        scene
    }

    /// Asks for something under the path of the room.
    async fn at_room(&self, token: &str, request: &str, body: Value) -> Value {
        let (method, path) = request.split_once(' ').unwrap();
        let found = self.server.met(token, &format!("{method} /rooms/{}/{path}", self.room), body).await;
        assert!(!found.is_string(), "{request}: {found}");
        found
    }

    async fn get(&self, token: &str, path: &str) -> Value {
        self.server.met(token, &format!("GET {path}"), Value::Null).await
    }

    async fn say(&self, token: &str, content: Value) -> String {
        self.txns.set(self.txns.get() + 1);
        let path = format!("PUT send/m.room.message/{}", self.txns.get());
        self.at_room(token, &path, content).await["event_id"].as_str().unwrap().to_owned()
    }

    async fn relate(&self, token: &str, how: &str, id: &str) -> String {
        let relation = json!({ "rel_type": how, "event_id": id });
        self.say(token, json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relation })).await
    }

    async fn tell(&self, token: &str) -> String {
        self.say(token, json!({ "msgtype": "m.text", "body": "word" })).await
    }

    async fn ignore(&self, token: &str, (user, whom): (&str, &str)) {
        let path = format!("PUT /user/{user}/account_data/m.ignored_user_list");
        self.server.met(token, &path, json!({ "ignored_users": { whom: {} } })).await;
    }

    /// What there is since a token; without one, from the beginning.
    async fn sync(&self, token: &str, since: Option<&Value>) -> Value {
        let since = since.map_or(String::new(), |since| format!("&since={}", since.as_str().unwrap()));
        let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:20%7D%7D%7D";
        self.get(token, &format!("/sync?filter={filter}{since}")).await
    }

    fn joined<'a>(&self, answer: &'a Value) -> &'a Value {
        &answer["rooms"]["join"][&self.room]
    }

    async fn thread(&self, token: &str, root: &str) -> Value {
        let event = self.at_room(token, &format!("GET event/{root}"), Value::Null).await;
        event["unsigned"]["m.relations"]["m.thread"].clone()
    }
}

#[tokio::test]
async fn a_thread_is_told_without_whom_the_reader_ignores() {
    let scene = Scene::new(json!({})).await;
    let root = scene.tell(&scene.alice).await;
    let first = scene.relate(&scene.alice, "m.thread", &root).await;
    scene.relate(&scene.bob, "m.thread", &root).await;
    assert_eq!(scene.thread(&scene.alice, &root).await["count"], 2);
    scene.ignore(&scene.alice, ("@alice:localhost", "@bob:localhost")).await;
    let thread = scene.thread(&scene.alice, &root).await;
    assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(1), &json!(first)));
}

#[tokio::test]
async fn who_has_left_finds_threads_as_they_were() {
    let scene = Scene::new(json!({})).await;
    let (root, other) = (scene.tell(&scene.alice).await, scene.tell(&scene.alice).await);
    let first = scene.relate(&scene.alice, "m.thread", &root).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    scene.relate(&scene.alice, "m.thread", &root).await;
    scene.relate(&scene.alice, "m.thread", &other).await;
    let threads = format!("/_matrix/client/v1/rooms/{}/threads", scene.room);
    let threads = scene.get(&scene.bob, &threads).await;
    let threads = threads["chunk"].as_array().unwrap();
    assert_eq!((threads.len(), &threads[0]["event_id"]), (1, &json!(root)));
    let latest = &threads[0]["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"];
    assert_eq!(*latest, first);
}

#[tokio::test]
async fn the_latest_of_a_thread_comes_with_its_edit() {
    let scene = Scene::new(json!({})).await;
    let root = scene.tell(&scene.alice).await;
    let reply = scene.relate(&scene.alice, "m.thread", &root).await;
    // Without anything new it is no edit.
    scene.relate(&scene.alice, "m.replace", &reply).await;
    let relations = |thread: &Value| thread["latest_event"]["unsigned"]["m.relations"].clone();
    assert!(relations(&scene.thread(&scene.alice, &root).await).is_null());
    let relation = json!({ "rel_type": "m.replace", "event_id": reply });
    let content = json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relation });
    let mut edit = content.clone();
    edit["m.new_content"] = json!({ "msgtype": "m.text", "body": "y" });
    let edit = scene.say(&scene.alice, edit).await;
    assert_eq!(relations(&scene.thread(&scene.alice, &root).await)["m.replace"]["event_id"], edit);
}

#[tokio::test]
async fn why_something_was_redacted_is_told_to_who_may_see_that() {
    let scene = Scene::new(json!({})).await;
    let said = scene.tell(&scene.alice).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    scene.at_room(&scene.alice, &format!("PUT redact/{said}/1"), json!({ "reason": "secret" })).await;
    for (token, expected) in [(&scene.alice, json!("secret")), (&scene.bob, Value::Null)] {
        let event = scene.at_room(token, &format!("GET event/{said}"), Value::Null).await;
        let because = &event["unsigned"]["redacted_because"];
        assert!(because.is_object() && event["content"]["body"].is_null(), "{event}");
        assert_eq!(because["content"]["reason"], expected);
    }
}

#[tokio::test]
async fn a_forgotten_room_is_not_searched() {
    let scene = Scene::new(json!({})).await;
    scene.tell(&scene.alice).await;
    let body = json!({ "search_categories": { "room_events": { "search_term": "word" } } });
    for (verb, expected) in [("leave", 1), ("forget", 0)] {
        scene.at_room(&scene.bob, &format!("POST {verb}"), json!({})).await;
        let found = scene.server.met(&scene.bob, "POST /search", body.clone()).await;
        assert_eq!(found["search_categories"]["room_events"]["count"], expected, "{verb}");
    }
}

#[tokio::test]
async fn who_is_taken_out_of_a_room_types_no_more() {
    let scene = Scene::new(json!({})).await;
    let bob = json!({ "user_id": "@bob:localhost" });
    for verb in ["kick", "ban"] {
        let typing = json!({ "typing": true, "timeout": 30_000 });
        scene.at_room(&scene.bob, "PUT typing/@bob:localhost", typing).await;
        let before = scene.sync(&scene.alice, None).await;
        scene.at_room(&scene.alice, &format!("POST {verb}"), bob.clone()).await;
        let after = scene.sync(&scene.alice, Some(&before["next_batch"])).await;
        let events = &scene.joined(&after)["ephemeral"]["events"];
        assert_eq!(events[0]["content"]["user_ids"], json!([]), "{verb}: {after}");
        scene.server.met(&scene.bob, &format!("POST /join/{}", scene.room), json!({})).await;
    }
}

#[tokio::test]
async fn who_comes_back_hears_that_nobody_types() {
    let scene = Scene::new(json!({})).await;
    let typing = json!({ "typing": true, "timeout": 30_000 });
    scene.at_room(&scene.alice, "PUT typing/@alice:localhost", typing).await;
    let before = scene.sync(&scene.bob, None).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    scene.at_room(&scene.alice, "PUT typing/@alice:localhost", json!({ "typing": false })).await;
    scene.at_room(&scene.bob, "POST join", json!({})).await;
    let after = scene.sync(&scene.bob, Some(&before["next_batch"])).await;
    assert_eq!(scene.joined(&after)["ephemeral"]["events"][0]["content"]["user_ids"], json!([]), "{after}");
}

#[tokio::test]
async fn who_has_left_and_is_invited_again_has_an_invite() {
    let scene = Scene::new(json!({})).await;
    let before = scene.sync(&scene.bob, None).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    scene.at_room(&scene.alice, "POST invite", json!({ "user_id": "@bob:localhost" })).await;
    let after = scene.sync(&scene.bob, Some(&before["next_batch"])).await;
    assert!(after["rooms"]["invite"][&scene.room].is_object(), "{after}");
    assert!(after["rooms"]["leave"].is_null(), "{after}");
}

#[tokio::test]
async fn who_was_kicked_and_is_invited_by_somebody_ignored_is_out_of_the_room() {
    let scene = Scene::new(json!({})).await;
    scene.ignore(&scene.bob, ("@bob:localhost", "@alice:localhost")).await;
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
    let slide = async |pos: &Value| {
        let body = json!({ "pos": pos, "lists": { "a": list } });
        scene.server.met(&scene.bob, "POST /_matrix/client/v4/sync", body).await
    };
    let before = slide(&Value::Null).await;
    assert_eq!(before["rooms"][&scene.room]["membership"], "join");
    scene.at_room(&scene.alice, "POST kick", json!({ "user_id": "@bob:localhost" })).await;
    scene.at_room(&scene.alice, "POST invite", json!({ "user_id": "@bob:localhost" })).await;
    let after = slide(&before["pos"]).await;
    assert_eq!(after["rooms"][&scene.room]["membership"], "leave", "{after}");
    assert_eq!(slide(&after["pos"]).await["rooms"], json!({}));
    assert_eq!(slide(&Value::Null).await["rooms"], json!({}), "who begins hears nothing of it");
}

#[tokio::test]
async fn what_is_unread_follows_redactions_and_whom_the_reader_ignores() {
    let scene = Scene::new(json!({})).await;
    let count = async || {
        let answer = scene.sync(&scene.alice, None).await;
        scene.joined(&answer)["unread_notifications"]["notification_count"].as_u64().unwrap()
    };
    let first = scene.tell(&scene.bob).await;
    scene.tell(&scene.bob).await;
    assert_eq!(count().await, 2);
    // By the reader, after it was counted.
    scene.at_room(&scene.alice, &format!("PUT redact/{first}/1"), json!({})).await;
    let third = scene.tell(&scene.bob).await;
    scene.at_room(&scene.bob, &format!("PUT redact/{third}/2"), json!({})).await;
    assert_eq!(count().await, 0, "whoever redacts has read what was before");
    scene.tell(&scene.bob).await;
    let gone = scene.tell(&scene.bob).await;
    scene.at_room(&scene.bob, &format!("PUT redact/{gone}/3"), json!({})).await;
    assert_eq!(count().await, 1, "what is gone before it was counted");
    scene.ignore(&scene.alice, ("@alice:localhost", "@bob:localhost")).await;
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn lower_counts_are_told_when_what_lowers_them_is_filtered_out() {
    let scene = Scene::new(json!({})).await;
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22not_types%22:%5B%22m.room.message%22%5D%7D%7D%7D";
    scene.tell(&scene.bob).await;
    let before = scene.get(&scene.alice, &format!("/sync?filter={filter}")).await;
    assert_eq!(scene.joined(&before)["unread_notifications"]["notification_count"], 1);
    scene.tell(&scene.alice).await;
    let since = before["next_batch"].as_str().unwrap();
    let after = scene.get(&scene.alice, &format!("/sync?filter={filter}&since={since}")).await;
    assert_eq!(scene.joined(&after)["unread_notifications"]["notification_count"], 0, "{after}");
}

/// Bob sees a name and not the next one, which was given while he was away; a change of the visibility, which he
/// sees, brings both into one timeline.
#[tokio::test]
async fn state_that_unseen_state_has_replaced_is_not_the_last_that_a_client_gets() {
    let scene = Scene::new(json!({})).await;
    let set = async |kind: &str, content: Value| {
        scene.at_room(&scene.alice, &format!("PUT state/{kind}/"), content).await;
    };
    set("m.room.name", json!({ "name": "old" })).await;
    set("m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    set("m.room.name", json!({ "name": "new" })).await;
    scene.at_room(&scene.bob, "POST join", json!({})).await;
    let answer = scene.sync(&scene.bob, None).await;
    let room = scene.joined(&answer);
    let all = [&room["state"]["events"], &room["timeline"]["events"]];
    let mut names = all.into_iter().flat_map(|events| events.as_array().unwrap());
    let last = names.rfind(|event| event["type"] == "m.room.name");
    assert_eq!(last.unwrap()["content"]["name"], "new", "{room}");
    assert_eq!(room["timeline"]["limited"], true);
}

#[tokio::test]
async fn full_state_with_lazily_loaded_members_tells_of_those_that_changed() {
    let scene = Scene::new(json!({})).await;
    scene.tell(&scene.bob).await;
    let filter = "%7B%22room%22:%7B%22state%22:%7B%22lazy_load_members%22:true%7D%7D%7D";
    let before = scene.get(&scene.alice, &format!("/sync?filter={filter}")).await;
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    for number in 0..20 {
        scene.say(&scene.alice, json!({ "msgtype": "m.text", "body": number.to_string() })).await;
    }
    let since = before["next_batch"].as_str().unwrap();
    let query = format!("/sync?filter={filter}&since={since}&full_state=true");
    let after = scene.get(&scene.alice, &query).await;
    let state = scene.joined(&after)["state"]["events"].as_array().unwrap();
    let bob = state.iter().find(|event| event["state_key"] == "@bob:localhost");
    assert_eq!(bob.unwrap()["content"]["membership"], "leave", "{after}");
}

/// Row 2.7 of the list of known vulnerabilities (CVE-2021-39164): nor is anybody told of them who is not in the room,
/// with whichever token, nor who has been put out of it, of what came after that.
#[tokio::test]
async fn row_2_7_cve_2021_39164_members_of_a_time_are_told_to_who_may_see_it() {
    let visibility = json!([{ "type": "m.room.history_visibility", "state_key": "",
        "content": { "history_visibility": "joined" } }]);
    let scene = Scene::new(json!({ "initial_state": visibility })).await;
    scene.tell(&scene.alice).await;
    let page = scene.at_room(&scene.alice, "GET messages?dir=b&limit=1", Value::Null).await;
    let then = page["end"].as_str().unwrap();
    scene.at_room(&scene.bob, "POST leave", json!({})).await;
    let carol = scene.server.register("carol").await;
    scene.at_room(&carol, "POST join", json!({})).await;
    for (token, bob) in [(&scene.alice, "join"), (&carol, "leave")] {
        let members = scene.at_room(token, &format!("GET members?at={then}"), Value::Null).await;
        let members = members["chunk"].as_array().unwrap();
        let found = members.iter().find(|event| event["state_key"] == "@bob:localhost").unwrap();
        assert_eq!(found["content"]["membership"], bob);
    }
    let now = scene.get(&scene.alice, "/sync").await["next_batch"].clone();
    let eve = scene.server.register("eve").await;
    for at in [then, now.as_str().unwrap(), "t0", "t1", "s1"] {
        for path in [format!("members?at={at}"), format!("members?membership=join&at={at}")] {
            let path = format!("GET /rooms/{}/{path}", scene.room);
            scene.server.check(&eve, &path, (Value::Null, json!("403 M_FORBIDDEN"))).await;
        }
    }
    // Who was put out is told of those who were there then, whatever the token says.
    scene.at_room(&scene.alice, "POST ban", json!({ "user_id": "@carol:localhost" })).await;
    scene.at_room(&eve, "POST join", json!({})).await;
    let now = scene.get(&scene.alice, "/sync").await["next_batch"].clone();
    for query in [String::new(), format!("?at={}", now.as_str().unwrap()), String::from("?at=s9999999999")] {
        let members = scene.at_room(&carol, &format!("GET members{query}"), Value::Null).await.to_string();
        assert!(members.contains("@carol") && !members.contains("@eve"), "{query}: {members}");
    }
    scene.at_room(&carol, "POST forget", json!({})).await;
    let path = format!("GET /rooms/{}/members?at={then}", scene.room);
    scene.server.check(&carol, &path, (Value::Null, json!("403 M_FORBIDDEN"))).await;
}

#[tokio::test]
async fn what_sticks_comes_with_a_room_that_somebody_enters_later() {
    let scene = Scene::new(json!({})).await;
    let made = scene.server.met(&scene.alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = made["room_id"].as_str().unwrap();
    let query = "?org.matrix.msc4354.sticky_duration_ms=600000";
    let request = format!("PUT /rooms/{room}/send/m.x/1{query}");
    let sent = scene.server.met(&scene.alice, &request, json!({ "body": "sticks" })).await;
    let name = "org.matrix.msc4354.sticky_events";
    let slide = async |pos: &Value, since: &Value| {
        let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
        let sticky = json!({ "enabled": true, "since": since, "limit": 1 });
        let body = json!({ "pos": pos, "lists": { "all": list }, "extensions": { name: sticky } });
        scene.server.met(&scene.bob, "POST /_matrix/client/v4/sync", body).await
    };
    let first = slide(&Value::Null, &Value::Null).await;
    let since = &first["extensions"][name]["next_batch"];
    assert!(since.is_string(), "{first}");
    scene.server.met(&scene.bob, &format!("POST /join/{room}"), json!({})).await;
    let next = slide(&first["pos"], since).await;
    let told = &next["extensions"][name];
    assert_eq!(told["rooms"][room]["events"][0]["event_id"], sent["event_id"], "{next}");
    let last = slide(&next["pos"], &told["next_batch"]).await;
    assert_eq!(last["extensions"][name]["rooms"], json!({}), "once: {last}");
}
