//! Who hears of whose devices, and who changes which keys, over HTTP.

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

/// Row 7.14 of the list of known vulnerabilities (keys overwritten with nothing but a token): the first cross-signing keys
/// and the same ones again need nothing, others a password, which is good for those keys only; and a device has keys of its
/// own and of no other.
#[tokio::test]
async fn row_7_14_other_keys_than_the_first_need_more_than_a_token() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let upload = "POST /keys/device_signing/upload";
    let key = |public: &str| json!({ "user_id": "@alice:localhost", "usage": ["master"], "keys": { format!("ed25519:{public}"): public } });
    let keys = |public: &str, auth: Value| {
        let mut body = json!({ "master_key": key(public) });
        if !auth.is_null() {
            body["auth"] = auth;
        }
        body
    };
    let [first, second, third] = ["A", "B", "C"].map(|letter| format!("{}Q", letter.repeat(42)));
    let master = async || {
        let asked = json!({ "device_keys": { "@alice:localhost": [] } });
        let told = server.met(&bob, "POST /keys/query", asked).await;
        told["master_keys"]["@alice:localhost"]["keys"].clone()
    };
    server.check(&bob, upload, (keys(&first, Value::Null), json!("400 M_INVALID_PARAM"))).await;
    for again in 0..2 {
        let body = keys(&first, Value::Null);
        assert_eq!(server.met(&alice, upload, body).await, json!({}), "the first keys, time {again}");
    }
    let shown = json!({ format!("ed25519:{first}"): first });
    let (status, asked) = server.ask(&alice, upload, keys(&second, Value::Null)).await;
    assert_eq!(status, 401, "{asked}");
    let auth = |password: &str, name: &str| {
        json!({
            "type": "m.login.password", "password": password, "session": asked["session"],
            "identifier": { "type": "m.id.user", "user": name },
        })
    };
    for wrong in [
        json!({}),
        json!({ "session": asked["session"] }),
        json!({ "type": "m.login.dummy", "session": asked["session"] }),
        auth("wrong", "alice"),
        auth("secret", "bob"),
    ] {
        let (status, met) = server.ask(&alice, upload, keys(&second, wrong.clone())).await;
        assert!(matches!(status, 400 | 401 | 403), "{wrong}: {met}");
        assert_eq!(master().await, shown, "{wrong}");
    }
    assert_eq!(server.met(&alice, upload, keys(&second, auth("secret", "alice"))).await, json!({}));
    let shown = json!({ format!("ed25519:{second}"): second });
    assert_eq!(master().await, shown);
    // What was proved for these keys is not proved for others.
    for stale in [json!({ "session": asked["session"] }), Value::Null] {
        let (status, met) = server.ask(&alice, upload, keys(&third, stale)).await;
        assert_eq!(status, 401, "{met}");
        assert_eq!(master().await, shown);
    }

    let device_keys = |user: &str, device: &str| {
        json!({ "device_keys": {
            "user_id": user, "device_id": device, "algorithms": [], "signatures": {},
            "keys": { format!("ed25519:{device}"): first, format!("curve25519:{device}"): first },
        } })
    };
    for (user, device) in [("@alice:localhost", "DESK"), ("@bob:localhost", "PHONE")] {
        let refused = json!("400 M_INVALID_PARAM");
        server.check(&alice, "POST /keys/upload", (device_keys(user, device), refused)).await;
    }
    let asked = json!({ "device_keys": { "@alice:localhost": [], "@bob:localhost": [] } });
    let told = server.met(&bob, "POST /keys/query", asked).await;
    for user in ["@alice:localhost", "@bob:localhost"] {
        assert_eq!(told["device_keys"][user], json!({}), "{told}");
    }
}
