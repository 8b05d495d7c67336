//! Who hears of whose devices, over HTTP.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server, limits::KEYS_ASKED_MAX};

/// Somebody who syncs.
struct Watcher<'a> {
    server: &'a Server,
    token: String,
    since: String,
}

impl<'a> Watcher<'a> {
    async fn new(server: &'a Server, name: &str) -> Self {
        let token = server.register(name).await;
        let mut watcher = Self { server, token, since: String::new() };
        watcher.news().await;
        watcher
    }

    /// Whose devices have changed and whom there is nothing to hear of any more, since the last time: by
    /// sync, which must say the same as `/keys/changes`.
    async fn news(&mut self) -> (Vec<String>, Vec<String>) {
        let query = if self.since.is_empty() { String::new() } else { format!("?since={}", self.since) };
        let answer = self.server.met(&self.token, &format!("GET /sync{query}"), Value::Null).await;
        let next = answer["next_batch"].as_str().unwrap().to_owned();
        let synced = lists(&answer["device_lists"]);
        if !self.since.is_empty() {
            let path = format!("GET /keys/changes?from={}&to={next}", self.since);
            let asked = lists(&self.server.met(&self.token, &path, Value::Null).await);
            assert_eq!(asked, synced, "{path}");
        }
        self.since = next;
        synced
    }

    async fn ask(&self, request: &str, body: Value) -> Value {
        self.server.met(&self.token, request, body).await
    }
}

fn lists(found: &Value) -> (Vec<String>, Vec<String>) {
    let list = |name: &str| -> Vec<String> {
        let users = found[name].as_array().cloned().unwrap_or_default();
        let mut users: Vec<String> =
            users.iter().map(|user| user.as_str().unwrap().replace(":localhost", "")).collect();
        users.sort();
        users
    };
    (list("changed"), list("left"))
}

#[tokio::test]
async fn who_shares_a_room_hears_of_devices() {
    let server = Server::new(Registration::Open).await;
    let (mut alice, mut bob) = (Watcher::new(&server, "alice").await, Watcher::new(&server, "bob").await);
    let mut eve = Watcher::new(&server, "eve").await;
    let room = bob.ask("POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    let second = bob.ask("POST /createRoom", json!({ "preset": "public_chat" })).await;
    let second = second["room_id"].as_str().unwrap().to_owned();
    bob.news().await;
    alice.ask(&format!("POST /join/{room}"), json!({})).await;
    let none = || (Vec::new(), Vec::new());
    let changed = |name: &str| (vec![name.to_owned()], Vec::new());
    assert_eq!(bob.news().await, changed("@alice"), "somebody came");
    assert!(alice.news().await.0.contains(&"@bob".to_owned()));
    alice.ask(&format!("POST /join/{second}"), json!({})).await;
    bob.news().await;
    alice.news().await;
    assert_eq!(bob.news().await, none());

    let tablet = server.login(json!({ "device_id": "TAB" })).await;
    let tablet = tablet["access_token"].as_str().unwrap();
    assert_eq!(bob.news().await, changed("@alice"), "a new device");
    server.met(tablet, "PUT /devices/TAB", json!({ "display_name": "tablet" })).await;
    assert_eq!(bob.news().await, changed("@alice"), "another name");
    server.met(tablet, "POST /logout", json!({})).await;
    assert_eq!(bob.news().await, changed("@alice"), "a device less");
    assert_eq!(bob.news().await, none());
    assert_eq!(eve.news().await, none(), "strangers hear nothing");

    alice.ask(&format!("POST /rooms/{room}/leave"), json!({})).await;
    assert_eq!(bob.news().await, none(), "one room is left");
    alice.ask(&format!("POST /rooms/{second}/leave"), json!({})).await;
    // Tokens in the wrong order, and one token twice: nothing happened in between.
    for span in [format!("from={}&to=s0", bob.since), format!("from={0}&to={0}", bob.since)] {
        let found = bob.ask(&format!("GET /keys/changes?{span}"), Value::Null).await;
        assert_eq!(lists(&found), none(), "{span}");
    }
    let left = |name: &str| (Vec::new(), vec![name.to_owned()]);
    assert_eq!(bob.news().await, left("@alice"));
    // Since she last asked, her own tablet has come and gone too.
    assert_eq!(alice.news().await, (vec![String::from("@alice")], vec![String::from("@bob")]));
    server.login(json!({ "device_id": "TAB" })).await;
    assert_eq!(bob.news().await, none(), "nothing is shared any more");
}

#[tokio::test]
async fn what_is_empty_is_there_all_the_same() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let claim = json!({ "one_time_keys": { "@nobody:localhost": { "PHONE": "signed_curve25519" } } });
    let claimed = server.met(&alice, "POST /keys/claim", claim).await;
    assert_eq!((&claimed["one_time_keys"], &claimed["failures"]), (&json!({}), &json!({})));
    let found = server.met(&alice, "POST /keys/query", json!({ "device_keys": {} })).await;
    for name in ["device_keys", "failures", "master_keys", "self_signing_keys", "user_signing_keys"] {
        assert_eq!(found[name], json!({}), "{name}");
    }
}

#[tokio::test]
async fn requests_that_name_too_many_devices_are_refused() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let many = json!("413 M_TOO_LARGE");
    let devices = |count: usize| (0..count).map(|n| (format!("D{n}"), json!("signed_curve25519")));
    let claim = |count: usize| {
        let devices: serde_json::Map<String, Value> = devices(count).collect();
        json!({ "one_time_keys": { "@alice:localhost": devices } })
    };
    server.check(&alice, "POST /keys/claim", (claim(KEYS_ASKED_MAX + 1), many.clone())).await;
    let none = json!({ "failures": {}, "one_time_keys": {} });
    server.check(&alice, "POST /keys/claim", (claim(KEYS_ASKED_MAX), none)).await;
    let users: serde_json::Map<String, Value> =
        (0..=KEYS_ASKED_MAX).map(|n| (format!("@u{n}:localhost"), json!([]))).collect();
    server.check(&alice, "POST /keys/query", (json!({ "device_keys": users }), many.clone())).await;
    let named: Vec<String> = devices(KEYS_ASKED_MAX + 1).map(|(name, _)| name).collect();
    let query = json!({ "device_keys": { "@alice:localhost": named } });
    server.check(&alice, "POST /keys/query", (query, many)).await;
}
