//! What administrators learn of what was reported, and do about it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    account::Registration,
    http::{
        client::testing::{Server, stored},
        tests::services_at,
    },
    limits::REPORT_EVIDENCE_MS,
    types::ManualClock,
};

const RUDE: &str = "something very rude";

/// An administrator, alice and `@spam`, who has shown a file in a room and was reported for it by alice.
struct Scene {
    server: Server,
    clock: Arc<ManualClock>,
    root: String,
    spam: String,
    room: String,
    event: String,
}

impl Scene {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let services = services_at(crate::config::Config::default(), clock.clone()).await;
        let server = Server::over(services, Registration::Open);
        let [root, alice, spam] =
            [server.register("root").await, server.register("alice").await, server.register("spam").await];
        let admin = ruma::user_id!("@root:localhost");
        server.app().accounts.change_user(admin, |user| user.admin = true).await.unwrap();
        let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.met(&spam, &format!("POST /join/{room}"), json!({})).await;
        let shown = json!({ "msgtype": "m.image", "body": RUDE, "url": "mxc://far.test/abc", "info": {
            "thumbnail_url": "mxc://localhost/gone" } });
        let sent = server.met(&spam, &format!("PUT /rooms/{room}/send/m.room.message/1"), shown).await;
        let event = sent["event_id"].as_str().unwrap().to_owned();
        server.met(&alice, &format!("POST /rooms/{room}/report/{event}"), json!({ "reason": "rude" })).await;
        Self { server, clock, root, spam, room, event }
    }

    /// The report, as an administrator sees it.
    async fn report(&self) -> Value {
        let list = self.server.met(&self.root, "GET /_synapse/admin/v1/event_reports", Value::Null).await;
        let path = format!("GET /_synapse/admin/v1/event_reports/{}", list["event_reports"][0]["id"]);
        self.server.met(&self.root, &path, Value::Null).await
    }

    async fn take_down(&self, wanted: Value) -> Value {
        let path = format!("POST /_lockstep/admin/v1/reports/{}/takedown", self.report().await["id"]);
        self.server.met(&self.root, &path, wanted).await
    }

    async fn redact(&self) {
        let path = format!("PUT /rooms/{}/redact/{}/2", self.room, self.event);
        self.server.met(&self.spam, &path, json!({})).await;
    }
}

#[tokio::test]
async fn what_was_reported_is_known_after_its_sender_takes_it_back() {
    let scene = Scene::new().await;
    scene.redact().await;
    let report = scene.report().await;
    assert_eq!(report["event_json"]["content"]["body"], RUDE, "{report}");
    // Until the report is dealt with,
    assert!(stored(scene.server.app()).await.contains(RUDE));
    let path = format!("DELETE /_synapse/admin/v1/event_reports/{}", report["id"]);
    scene.server.met(&scene.root, &path, Value::Null).await;
    assert!(!stored(scene.server.app()).await.contains(RUDE));
}

#[tokio::test]
async fn what_was_reported_long_ago_is_forgotten() {
    let scene = Scene::new().await;
    scene.redact().await;
    scene.server.app().reports.forget_evidence().await.unwrap();
    assert_eq!(scene.report().await["event_json"]["content"]["body"], RUDE);
    scene.clock.advance(Duration::from_millis(REPORT_EVIDENCE_MS + 1));
    assert_eq!(scene.report().await["event_json"]["content"], json!({}), "too old to be told");
    scene.server.app().purge.tend().await.unwrap();
    assert!(!stored(scene.server.app()).await.contains(RUDE));
}

#[tokio::test]
async fn what_was_reported_is_taken_down_at_once() {
    let scene = Scene::new().await;
    let done = scene.take_down(json!({ "reason": "no", "suspend": true })).await;
    let expected = json!({
        "quarantined": ["mxc://far.test/abc"], "redacted": true, "not_redacted": null, "suspended": true,
    });
    assert_eq!(done, expected);
    let media = &scene.server.app().media;
    assert!(media.is_quarantined(ruma::server_name!("far.test"), "abc").await.unwrap());
    let path = format!("GET /rooms/{}/event/{}", scene.room, scene.event);
    let event = scene.server.met(&scene.root, &format!("POST /join/{}", scene.room), json!({})).await;
    assert!(event["room_id"].is_string());
    assert_eq!(scene.server.met(&scene.root, &path, Value::Null).await["content"], json!({}));
    let say = format!("PUT /rooms/{}/send/m.room.message/3", scene.room);
    let refused = (json!({ "msgtype": "m.text", "body": "x" }), json!("403 M_USER_SUSPENDED"));
    scene.server.check(&scene.spam, &say, refused).await;
    assert_eq!(scene.report().await["event_json"]["content"]["body"], RUDE);
}

#[tokio::test]
async fn files_are_taken_down_whose_event_was_taken_back() {
    let scene = Scene::new().await;
    scene.redact().await;
    let done = scene.take_down(json!({})).await;
    assert_eq!(done["quarantined"], json!(["mxc://far.test/abc"]));
    assert_eq!((&done["redacted"], &done["suspended"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn only_administrators_take_down_and_only_events() {
    let scene = Scene::new().await;
    let path = |id: &str| format!("POST /_lockstep/admin/v1/reports/{id}/takedown");
    let id = scene.report().await["id"].to_string();
    scene.server.check(&scene.spam, &path(&id), (json!({}), json!("403 M_FORBIDDEN"))).await;
    scene.server.check(&scene.root, &path("7"), (json!({}), json!("404 M_NOT_FOUND"))).await;
    scene.server.check(&scene.root, &path("x"), (json!({}), json!("400 M_INVALID_PARAM"))).await;
    scene.server.met(&scene.spam, "POST /users/@alice:localhost/report", json!({ "reason": "x" })).await;
    let list = scene.server.met(&scene.root, "GET /_synapse/admin/v1/user_reports", Value::Null).await;
    let id = list["user_reports"][0]["id"].to_string();
    scene.server.check(&scene.root, &path(&id), (json!({}), json!("400 M_INVALID_PARAM"))).await;
}
