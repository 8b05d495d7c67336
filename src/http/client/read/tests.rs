//! Looking into rooms over HTTP.

use std::sync::Arc;

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    account::{NewSession, NewUser},
    http::{App, Routes, client, tests::services},
};

/// One user of a server.
struct Client {
    router: Router,
    token: String,
}

async fn clients<const N: usize>(names: [&str; N]) -> [Client; N] {
    let mut services = services().await;
    services.gate = Arc::new(services.accounts.clone());
    let app = App::new(services);
    let mut routes = Routes::default();
    client::room::routes(&mut routes);
    client::read::routes(&mut routes);
    let router = routes.into_router(app.clone());
    let mut clients = Vec::new();
    for name in names {
        let new = NewUser { username: Some(name.into()), password: Some("secret".into()), admin: false };
        let user_id = app.accounts.create_user(new).await.unwrap();
        let session = NewSession {
            user_id,
            device_id: Some("D".into()),
            display_name: None,
            refreshes: false,
            client: None,
        };
        let token = app.accounts.start_session(session).await.unwrap().access_token;
        clients.push(Client { router: router.clone(), token });
    }
    clients.try_into().ok().unwrap()
}

impl Client {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let version = if path.contains("/relations/") || path.ends_with("/threads") { "v1" } else { "v3" };
        let version =
            if path.contains("hierarchy") || path.contains("room_summary") || path.contains("timestamp_to") {
                "v1"
            } else {
                version
            };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/_matrix/client/{version}{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, found) = self.ask(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {found}");
        found
    }

    async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }

    async fn refused(&self, path: &str, expected: (u16, &str)) {
        let (status, found) = self.ask("GET", path, Value::Null).await;
        assert_eq!((status, found["errcode"].as_str().unwrap_or_default()), expected, "{path}: {found}");
    }

    async fn room(&self, wanted: Value) -> String {
        self.ok("POST", "/createRoom", wanted).await["room_id"].as_str().unwrap().to_owned()
    }

    async fn say(&self, room: &str, txn: usize, content: Value) -> String {
        let path = format!("/rooms/{room}/send/m.room.message/t{txn}");
        self.ok("PUT", &path, content).await["event_id"].as_str().unwrap().to_owned()
    }

    /// Every event of a room, page by page.
    async fn walk(&self, room: &str, query: &str) -> Vec<String> {
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/rooms/{room}/messages?{query}{from}")).await;
            found.extend(ids(&page["chunk"]));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return found,
            }
        }
    }
}

fn ids(events: &Value) -> Vec<String> {
    events.as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_cover_each_event_once_in_both_directions() {
    let [alice] = clients(["alice"]).await;
    let room = alice.room(json!({"preset": "public_chat"})).await;
    let mut said = Vec::new();
    for number in 0..23 {
        said.push(alice.say(&room, number, json!({"body": number.to_string()})).await);
    }
    let all = alice.walk(&room, "dir=f&limit=1000").await;
    assert_eq!(&all[all.len() - said.len()..], &said[..]);
    let messages = "&filter=%7B%22types%22:%5B%22m.room.message%22%5D%7D";
    for limit in [1, 2, 7, 100] {
        for (filter, expected) in [("", &all), (messages, &said)] {
            assert_eq!(alice.walk(&room, &format!("dir=f&limit={limit}{filter}")).await, *expected);
            let mut backward = alice.walk(&room, &format!("dir=b&limit={limit}{filter}")).await;
            backward.reverse();
            assert_eq!(backward, *expected, "{limit} {filter}");
        }
    }
    let context = alice.get(&format!("/rooms/{room}/context/{}?limit=4", said[10])).await;
    assert_eq!(ids(&context["events_before"]), [said[9].clone(), said[8].clone()]);
    assert_eq!(ids(&context["events_after"]), [said[11].clone(), said[12].clone()]);
    for (dir, token, expected) in [("b", "start", &said[7]), ("f", "end", &said[13])] {
        let from = context[token].as_str().unwrap();
        let page = alice.get(&format!("/rooms/{room}/messages?dir={dir}&from={from}&limit=1")).await;
        assert_eq!(ids(&page["chunk"]), std::slice::from_ref(expected));
    }
    let newest = alice.get(&format!("/rooms/{room}/context/{}?limit=0", said[22])).await;
    assert_eq!((&newest["events_before"], &newest["events_after"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn who_left_sees_what_was_before_and_strangers_see_nothing() {
    let [alice, bob, eve] = clients(["alice", "bob", "eve"]).await;
    let room = alice.room(json!({"preset": "public_chat"})).await;
    let before = alice.say(&room, 0, json!({"body": "before"})).await;
    bob.ok("POST", &format!("/rooms/{room}/join"), json!({})).await;
    bob.ok("POST", &format!("/rooms/{room}/leave"), json!({})).await;
    let after = alice.say(&room, 1, json!({"body": "after"})).await;
    let seen = bob.walk(&room, "dir=b").await;
    assert!(seen.contains(&before) && !seen.contains(&after));
    bob.get(&format!("/rooms/{room}/event/{before}")).await;
    bob.refused(&format!("/rooms/{room}/event/{after}"), (404, "M_NOT_FOUND")).await;
    bob.refused(&format!("/rooms/{room}/joined_members"), (403, "M_FORBIDDEN")).await;
    for path in ["messages?dir=b", "members", "joined_members", "threads", "timestamp_to_event?dir=f&ts=0"] {
        let path = format!("/rooms/{room}/{path}");
        eve.refused(&path, (403, "M_FORBIDDEN")).await;
    }
    alice.refused(&format!("/rooms/{room}/messages?dir=b&from=x"), (400, "M_INVALID_PARAM")).await;
    // Who may not look hears that, and not what else is wrong with the question.
    alice.refused(&format!("/rooms/{room}/messages"), (400, "M_MISSING_PARAM")).await;
    alice.refused("/rooms/room/messages?dir=b", (400, "M_INVALID_PARAM")).await;
    eve.refused(&format!("/rooms/{room}/messages"), (403, "M_FORBIDDEN")).await;
    bob.ok("POST", &format!("/rooms/{room}/forget"), json!({})).await;
    bob.refused(&format!("/rooms/{room}/messages"), (403, "M_FORBIDDEN")).await;
    let left = alice.get(&format!("/rooms/{room}/members?membership=leave")).await;
    assert_eq!(left["chunk"][0]["state_key"], "@bob:localhost");
    let lazy = "&filter=%7B%22lazy_load_members%22:true%7D";
    let page = alice.get(&format!("/rooms/{room}/messages?dir=b&limit=1{lazy}")).await;
    assert_eq!(page["state"][0]["state_key"], "@alice:localhost");
}

#[tokio::test]
async fn members_are_those_of_the_moment_that_is_asked_for() {
    let [alice, bob] = clients(["alice", "bob"]).await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let start = async |dir: &str| {
        let page = alice.get(&format!("/rooms/{room}/messages?dir={dir}&limit=1")).await;
        page["start"].as_str().unwrap().to_owned()
    };
    let (beginning, then) = (start("f").await, start("b").await);
    bob.ok("POST", &format!("/rooms/{room}/join"), json!({})).await;
    for (at, expected) in [(beginning, 0), (then, 1)] {
        let members = alice.get(&format!("/rooms/{room}/members?at={at}")).await;
        assert_eq!(members["chunk"].as_array().unwrap().len(), expected, "at {at}: {members}");
    }
}

/// Row 2.18 of the list of known vulnerabilities (tuwunel 1.7.1, 1.8.1: `/messages` of a room that one cannot see): whoever
/// is not in a room, was never let in, or was put out is told nothing of what they may not see there, by any endpoint, any
/// token and any event id.
#[tokio::test]
async fn row_2_18_nothing_is_told_of_a_room_to_who_may_not_see_it() {
    let [alice, bob, carol, dan] = clients(["alice", "bob", "carol", "dan"]).await;
    for visibility in ["shared", "invited", "joined"] {
        let setting = json!([{
            "type": "m.room.history_visibility", "state_key": "", "content": { "history_visibility": visibility },
        }]);
        let wanted = json!({ "preset": "private_chat", "name": "hidden name", "initial_state": setting });
        let room = alice.room(wanted).await;
        let open = dan.room(json!({ "preset": "public_chat" })).await;
        let own = dan.say(&open, 0, json!({ "body": "own" })).await;
        let token =
            dan.get(&format!("/rooms/{open}/messages?dir=b")).await["start"].as_str().unwrap().to_owned();
        let root = alice.say(&room, 1, json!({ "body": "hidden one" })).await;
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        alice.say(&room, 2, json!({ "body": "hidden two", "m.relates_to": relation })).await;
        // carol is invited only; bob has been in the room, and was put out before the last thing was said.
        for name in ["bob", "carol"] {
            let invited = json!({ "user_id": format!("@{name}:localhost") });
            alice.ok("POST", &format!("/rooms/{room}/invite"), invited).await;
        }
        bob.ok("POST", &format!("/rooms/{room}/join"), json!({})).await;
        alice.ok("POST", &format!("/rooms/{room}/kick"), json!({ "user_id": "@bob:localhost" })).await;
        let late = alice.say(&room, 3, json!({ "body": "hidden late" })).await;
        let paths = |room: &str, event: &str| {
            [
                format!("/rooms/{room}/messages?dir=b"),
                format!("/rooms/{room}/messages?dir=f"),
                format!("/rooms/{room}/messages?dir=b&from={token}"),
                format!("/rooms/{room}/context/{event}"),
                format!("/rooms/{room}/event/{event}"),
                format!("/rooms/{room}/relations/{event}"),
                format!("/rooms/{room}/threads"),
                format!("/rooms/{room}/state"),
                format!("/rooms/{room}/state/m.room.name"),
                format!("/rooms/{room}/members"),
                format!("/rooms/{room}/joined_members"),
                format!("/rooms/{room}/timestamp_to_event?ts=0&dir=f"),
                format!("/rooms/{room}/initialSync"),
            ]
        };
        for (client, who) in [(&dan, "a stranger"), (&carol, "who is invited")] {
            for path in paths(&room, &root) {
                let (status, found) = client.ask("GET", &path, Value::Null).await;
                assert!(matches!(status, 403 | 404), "{visibility}: {who}: {path}: {status} {found}");
                assert!(!found.to_string().contains("hidden"), "{visibility}: {who}: {path}: {found}");
            }
        }
        // Through a room that one may look into.
        for path in paths(&open, &root).into_iter().filter(|path| path.contains(&*root)) {
            let (status, found) = dan.ask("GET", &path, Value::Null).await;
            assert_eq!(status, 404, "{visibility}: {path}: {found}");
        }
        for path in paths(&room, &own).into_iter().filter(|path| path.contains(&*own)) {
            let (status, found) = dan.ask("GET", &path, Value::Null).await;
            assert!(matches!(status, 403 | 404), "{visibility}: {path}: {status} {found}");
        }
        for path in paths(&room, &late) {
            let (_, found) = bob.ask("GET", &path, Value::Null).await;
            assert!(!found.to_string().contains("hidden late"), "{visibility}: bob: {path}: {found}");
        }
    }
}

#[tokio::test]
async fn relations_and_threads_are_found() {
    let [alice] = clients(["alice"]).await;
    let room = alice.room(json!({})).await;
    let root = alice.say(&room, 0, json!({"body": "root"})).await;
    let relate = |kind: &str| json!({"body": "x", "m.relates_to": {"rel_type": kind, "event_id": root}});
    let mut edit = relate("m.replace");
    edit["m.new_content"] = json!({"body": "y"});
    let edit = alice.say(&room, 1, edit).await;
    let mut replies = Vec::new();
    for number in 2..7 {
        replies.push(alice.say(&room, number, relate("m.thread")).await);
    }
    let of_edit = json!({"m.relates_to": {"rel_type": "m.reference", "event_id": edit}, "body": "y"});
    let indirect = alice.say(&room, 7, of_edit).await;
    let filtered = async |filter: &str| {
        let filter = filter.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        ids(&alice.get(&format!("/rooms/{room}/messages?dir=f&filter={filter}")).await["chunk"])
    };
    let threads = r#"{"org.matrix.msc3874.rel_types":["m.thread","m.reference"]}"#;
    assert_eq!(filtered(threads).await, [&replies[..], std::slice::from_ref(&indirect)].concat());
    let others = r#"{"types":["m.room.message"],"org.matrix.msc3874.not_rel_types":["m.thread"]}"#;
    assert_eq!(filtered(others).await, [root.clone(), edit.clone(), indirect.clone()]);
    let base = format!("/rooms/{room}/relations/{root}");
    let first = alice.get(&format!("{base}/m.thread?limit=3")).await;
    assert_eq!(ids(&first["chunk"]), [replies[4].clone(), replies[3].clone(), replies[2].clone()]);
    let next = first["next_batch"].as_str().unwrap();
    let second = alice.get(&format!("{base}/m.thread/m.room.message?limit=3&from={next}")).await;
    assert_eq!(ids(&second["chunk"]), [replies[1].clone(), replies[0].clone()]);
    assert!(second["next_batch"].is_null());
    let all = alice.get(&format!("{base}?dir=f")).await;
    assert_eq!(ids(&all["chunk"]).first(), Some(&edit));
    let deep = alice.get(&format!("{base}?recurse=true&limit=1")).await;
    assert_eq!(ids(&deep["chunk"]), [indirect]);
    let threads = alice.get(&format!("/rooms/{room}/threads")).await;
    assert_eq!(ids(&threads["chunk"]), std::slice::from_ref(&root));
    let relations = &threads["chunk"][0]["unsigned"]["m.relations"];
    assert_eq!(relations["m.thread"]["count"], 5);
    assert_eq!(relations["m.thread"]["latest_event"]["event_id"], replies[4].as_str());
    assert_eq!(relations["m.thread"]["current_user_participated"], true);
    assert_eq!(relations["m.replace"]["event_id"], edit.as_str());
}

#[tokio::test]
async fn directories_and_spaces_are_listed() {
    let [alice, bob] = clients(["alice", "bob"]).await;
    let child = alice.room(json!({"preset": "public_chat", "name": "Chess", "visibility": "public"})).await;
    let hidden = alice.room(json!({"name": "Secret"})).await;
    let space = json!({"preset": "public_chat", "name": "Space", "visibility": "public",
        "creation_content": {"type": "m.space"}});
    let space = alice.room(space).await;
    for room in [&child, &hidden] {
        let path = format!("/rooms/{space}/state/m.space.child/{room}");
        alice.ok("PUT", &path, json!({"via": ["localhost"]})).await;
    }
    bob.ok("POST", &format!("/rooms/{child}/join"), json!({})).await;
    let list = bob.get("/publicRooms?limit=1").await;
    assert_eq!((&list["chunk"][0]["name"], &list["total_room_count_estimate"]), (&json!("Chess"), &json!(2)));
    let list = bob.get(&format!("/publicRooms?since={}", list["next_batch"].as_str().unwrap())).await;
    assert_eq!((&list["chunk"][0]["name"], &list["next_batch"]), (&json!("Space"), &Value::Null));
    let wanted = json!({"filter": {"generic_search_term": "CHES"}});
    let list = bob.ok("POST", "/publicRooms", wanted).await;
    assert_eq!(list["chunk"].as_array().unwrap().len(), 1);
    let names = |found: &Value| -> Vec<String> {
        found["rooms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|room| room["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let tree = bob.get(&format!("/rooms/{space}/hierarchy")).await;
    assert_eq!(names(&tree), ["Space", "Chess"]);
    assert_eq!(tree["rooms"][0]["children_state"].as_array().unwrap().len(), 2);
    assert_eq!(names(&alice.get(&format!("/rooms/{space}/hierarchy")).await).len(), 3);
    bob.refused(&format!("/rooms/{hidden}/hierarchy"), (403, "M_FORBIDDEN")).await;
    bob.refused(&format!("/room_summary/{hidden}"), (404, "M_NOT_FOUND")).await;
    let summary = bob.get(&format!("/room_summary/{child}")).await;
    assert_eq!((&summary["name"], &summary["membership"]), (&json!("Chess"), &json!("join")));
    let found = bob.ok("POST", "/user_directory/search", json!({"search_term": "ALI"})).await;
    assert_eq!(found["results"][0]["user_id"], "@alice:localhost");
}
