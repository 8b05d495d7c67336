//! Redacting an event with what relates to it, and what a user has said with a ban.

use std::sync::Arc;

use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    history::{
        Boundary,
        tables::{RELATIONS, RelationRow},
    },
    http::{client::testing::Server, tests::services_at},
    limits::RELATION_KINDS_MAX,
    log::Commit,
    types::{ManualClock, Position},
};

const NAMES: [&str; 6] = ["root", "edit", "thread", "reference", "answer", "last"];

struct Scene {
    server: Server,
    alice: String,
    bob: String,
    room: String,
}

impl Scene {
    async fn new() -> Self {
        Self::of(Config::default()).await
    }

    async fn of(config: Config) -> Self {
        let services = services_at(config, Arc::new(ManualClock::at(0))).await;
        let server = Server::over(services, Registration::Open);
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let made = json!({ "preset": "public_chat", "room_version": "11" });
        let room = server.met(&alice, "POST /createRoom", made).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        Self { server, alice, bob, room }
    }

    /// Says something that relates to `to` in the way `kind`, if it is given; the event's id.
    async fn say(&self, token: &str, name: &str, relation: Option<(&str, &str)>) -> String {
        let mut content = json!({ "msgtype": "m.text", "body": name });
        if let Some((kind, to)) = relation {
            content["m.relates_to"] = json!({ "rel_type": kind, "event_id": to });
            if kind == "m.replace" {
                content["m.new_content"] = json!({ "msgtype": "m.text", "body": name });
            }
        }
        let path = format!("PUT /rooms/{}/send/m.room.message/{name}", self.room);
        self.server.met(token, &path, content).await["event_id"].as_str().unwrap().to_owned()
    }

    /// The texts that are left of `named`.
    async fn left(&self, named: &[(&str, String)]) -> Vec<&'static str> {
        let mut left = Vec::new();
        for (name, id) in named {
            let path = format!("GET /rooms/{}/event/{id}", self.room);
            let event = self.server.met(&self.alice, &path, Value::Null).await;
            if event["content"]["body"] == *name {
                left.push(NAMES.into_iter().find(|known| known == name).unwrap());
            }
        }
        left
    }

    /// Nothing is left of `named` but `expected`. What relates goes after the answer: that is waited for.
    async fn check_left(&self, named: &[(&str, String)], expected: &[&str]) {
        while !self.server.app().errands.are_done() {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.left(named).await, expected);
    }

    async fn redact(&self, token: &str, id: &str, (txn, kinds): (&str, Value)) -> Value {
        let path = format!("PUT /rooms/{}/redact/{id}/{txn}", self.room);
        let body = json!({ "reason": "spam", "org.matrix.msc3912.with_relations": kinds });
        self.server.met(token, &path, body).await
    }
}

/// MSC3912.
#[tokio::test]
async fn what_relates_to_an_event_goes_with_it_if_that_is_asked_for() {
    let scene = Scene::new().await;
    let Scene { alice, bob, .. } = &scene;
    for (kinds, expected) in [
        (json!(["m.replace", "m.thread"]), &["reference", "last"][..]),
        (json!(["*"]), &[]),
        (json!([]), &["edit", "thread", "reference", "answer", "last"]),
        (json!(["org.example.none"]), &["edit", "thread", "reference", "answer", "last"]),
    ] {
        let scene = Scene::new().await;
        let Scene { alice, bob, .. } = &scene;
        let root = scene.say(alice, "root", None).await;
        let mut named = vec![("root", root.clone())];
        for (name, token, kind) in [
            ("edit", alice, "m.replace"),
            ("thread", bob, "m.thread"),
            ("reference", bob, "m.reference"),
            ("answer", bob, "m.thread"),
            ("last", alice, "m.reference"),
        ] {
            named.push((name, scene.say(token, name, Some((kind, &root))).await));
        }
        let redacted = scene.redact(alice, &root, ("t", kinds.clone())).await;
        assert!(redacted["event_id"].is_string(), "{kinds}: {redacted}");
        scene.check_left(&named, expected).await;
        assert_eq!(scene.redact(alice, &root, ("t", kinds.clone())).await, redacted, "{kinds}: a retry");
        assert!(scene.server.app().errands.are_done(), "{kinds}: a retry has nothing done");
        // Each with a redaction of its own, which says why; a retry makes no more of them.
        let path = format!("GET /rooms/{}/messages?dir=b&limit=100", scene.room);
        let page = scene.server.met(bob, &path, Value::Null).await;
        let all = page["chunk"].as_array().unwrap();
        let redactions: Vec<_> = all.iter().filter(|event| event["type"] == "m.room.redaction").collect();
        assert_eq!(redactions.len(), named.len() - expected.len(), "{kinds}");
        assert!(
            redactions.iter().all(|event| event["content"]["reason"] == "spam"),
            "{kinds}: {redactions:?}"
        );
    }
    // Nobody redacts more than they may, and what comes after that is redacted all the same.
    let root = scene.say(bob, "root", None).await;
    let mut named = vec![("root", root.clone())];
    for (name, token) in [("thread", alice), ("last", bob)] {
        named.push((name, scene.say(token, name, Some(("m.thread", &root))).await));
    }
    scene.redact(bob, &root, ("t", json!(["m.thread"]))).await;
    scene.check_left(&named, &["thread"]).await;
    assert_eq!(scene.redact(alice, &root, ("u", json!("m.thread"))).await, "400 M_BAD_JSON");
    let many: Vec<_> = (0..=RELATION_KINDS_MAX).map(|number| number.to_string()).collect();
    assert_eq!(scene.redact(alice, &root, ("u", json!(many))).await, "400 M_INVALID_PARAM");
    assert_eq!(scene.left(&named).await, ["thread"]);
    let often = vec!["m.thread"; RELATION_KINDS_MAX + 1];
    scene.redact(alice, &root, ("u", json!(often))).await;
    scene.check_left(&named, &[]).await;
}

#[tokio::test]
async fn what_relates_to_an_event_is_found_behind_many_of_another_kind() {
    let scene = Scene::new().await;
    let Scene { server, alice, bob, .. } = &scene;
    let root = scene.say(alice, "root", None).await;
    let thread = scene.say(bob, "thread", Some(("m.thread", &root))).await;
    let parent = OwnedEventId::try_from(root.as_str()).unwrap();
    let row = RelationRow {
        event_id: ruma::owned_event_id!("$reaction"),
        event_type: String::from("m.reaction"),
        sender: ruma::owned_user_id!("@bob:localhost"),
        key: None,
    };
    let mut commit = Commit::new();
    for number in 0..5_000 {
        let place = Boundary { position: Position(1), number };
        commit.put(&RELATIONS, &(parent.clone(), String::from("m.annotation"), place), &row);
    }
    server.app().log.commit(commit).await.unwrap();
    scene.redact(alice, &root, ("t", json!(["m.thread"]))).await;
    scene.check_left(&[("root", root), ("thread", thread)], &[]).await;
}

#[tokio::test]
async fn state_in_force_stays_when_its_sender_is_banned() {
    let scene = Scene::of(Config { redact_on_ban: true, ..Config::default() }).await;
    let Scene { server, alice, bob, room } = &scene;
    let levels = json!({ "users": { "@alice:localhost": 100, "@bob:localhost": 50 } });
    server.met(alice, &format!("PUT /rooms/{room}/state/m.room.power_levels"), levels).await;
    let topic = format!("/rooms/{room}/state/m.room.topic");
    let set = server.met(bob, &format!("PUT {topic}"), json!({ "topic": "Plums" })).await;
    assert!(set["event_id"].is_string(), "{set}");
    let last = scene.say(bob, "last", None).await;
    let body = json!({ "user_id": "@bob:localhost", "org.matrix.msc4293.redact_events": true });
    server.check(alice, &format!("POST /rooms/{room}/ban"), (body, json!({}))).await;
    assert!(scene.left(&[("last", last)]).await.is_empty());
    assert_eq!(server.met(alice, &format!("GET {topic}"), Value::Null).await["topic"], "Plums");
    // Without its entries it denies every server.
    let acl = json!({ "allow": ["*"], "deny": [] });
    let acl = server.met(alice, &format!("PUT /rooms/{room}/state/m.room.server_acl"), acl).await;
    let acl = acl["event_id"].as_str().unwrap();
    assert_eq!(scene.redact(alice, acl, ("t", json!([]))).await, "403 M_FORBIDDEN");
}

/// MSC4293.
#[tokio::test]
async fn a_ban_takes_back_what_was_said_in_the_stay_that_it_ends() {
    for (is_on, way, by) in
        [(true, "ban", "alice"), (true, "kick", "alice"), (true, "ban", "dan"), (false, "ban", "alice")]
    {
        let scene = Scene::of(Config { redact_on_ban: is_on, ..Config::default() }).await;
        let Scene { server, alice, bob, room } = &scene;
        let dan = server.register("dan").await;
        server.met(&dan, &format!("POST /join/{room}"), json!({})).await;
        // dan may ban, and redacts nothing of others.
        let levels = json!({ "users": { "@alice:localhost": 100, "@dan:localhost": 50 }, "redact": 75 });
        let set = server.met(alice, &format!("PUT /rooms/{room}/state/m.room.power_levels"), levels).await;
        assert!(set["event_id"].is_string(), "{set}");
        let before = scene.say(bob, "root", None).await;
        server.met(bob, &format!("POST /rooms/{room}/leave"), json!({})).await;
        server.met(bob, &format!("POST /join/{room}"), json!({})).await;
        let mut named = vec![("root", before.clone())];
        for (name, token, relation) in
            [("edit", bob, None), ("thread", bob, Some(("m.thread", &*before))), ("reference", alice, None)]
        {
            named.push((name, scene.say(token, name, relation).await));
        }
        server.met(bob, "PUT /profile/@bob:localhost/displayname", json!({ "displayname": "Robert" })).await;
        named.push(("last", scene.say(bob, "last", None).await));
        let token = if by == "dan" { &dan } else { alice };
        let body = json!({
            "user_id": "@bob:localhost", "reason": "spam", "org.matrix.msc4293.redact_events": true,
        });
        server.check(token, &format!("POST /rooms/{room}/{way}"), (body, json!({}))).await;
        let is_swept = is_on && by == "alice";
        let expected: &[&str] = match is_swept {
            true => &["root", "reference"],
            false => &["root", "edit", "thread", "reference", "last"],
        };
        assert_eq!(scene.left(&named).await, expected, "{is_on} {way} {by}");
        let path = format!("GET /rooms/{room}/state/m.room.member/@bob:localhost");
        let member = server.met(alice, &path, Value::Null).await;
        assert_eq!(member.get("org.matrix.msc4293.redact_events").is_some(), is_on, "{member}");
        let path = format!("GET /rooms/{room}/event/{}", named[1].1);
        let because = server.met(alice, &path, Value::Null).await["unsigned"]["redacted_because"].clone();
        match is_swept {
            true => {
                assert_eq!(
                    (&because["type"], &because["content"]["reason"]),
                    (&json!("m.room.member"), &json!("spam"))
                );
            }
            false => assert_eq!(because, Value::Null),
        }
        let page =
            server.met(alice, &format!("GET /rooms/{room}/messages?dir=b&limit=100"), Value::Null).await;
        let is_redaction = |event: &Value| event["type"] == "m.room.redaction";
        assert!(!page["chunk"].as_array().unwrap().iter().any(is_redaction), "none is sent: {page}");
    }
}
