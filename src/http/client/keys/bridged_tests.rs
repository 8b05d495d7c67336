//! Keys that application services keep of their users.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::server_name;
use serde_json::{Value, json};

use crate::{
    account::Registration as Mode,
    appservice::{Appservices, Registration},
    config::Config,
    http::{client::testing::Server, tests::services_by},
    peer::{Bounds, Net, NetError, Purpose},
    store::{BoxFuture, Db, memory::Memory},
    types::ManualClock,
};

/// With every word of it; `old` is asked for nothing.
const IRC: &str = "
id: irc
url: http://irc.example.org
as_token: as_irc
hs_token: hs_irc
sender_localpart: irc_bot
org.matrix.msc3983: true
org.matrix.msc3984: true
namespaces: { users: [{ exclusive: true, regex: '@irc_.*' }, { exclusive: false, regex: '@shared_.*' }] }
";
const OLD: &str = "
id: old
url: http://old.example.org
as_token: as_old
hs_token: hs_old
sender_localpart: old_bot
namespaces: { users: [{ exclusive: true, regex: '@old_.*' }] }
";

/// Answers what it is told to, and remembers what it was asked.
#[derive(Default)]
struct Bridge {
    answer: Mutex<Option<(u16, Value)>>,
    asked: Mutex<Vec<Value>>,
}

impl Net for Bridge {
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        assert_eq!((purpose, request.uri().host()), (Purpose::Appservice, Some("irc.example.org")));
        assert_eq!(request.headers()["authorization"], "Bearer hs_irc");
        if !request.uri().path().contains("/keys/") {
            return Box::pin(async { Err(NetError::Timeout) });
        }
        assert!(bounds.timeout <= Duration::from_secs(5));
        self.asked.lock().push(serde_json::from_slice(request.body()).unwrap());
        let answer = self.answer.lock().clone().ok_or(NetError::Timeout);
        Box::pin(async move {
            let (status, body) = answer?;
            Ok(http::Response::builder().status(status).body(Bytes::from(body.to_string())).unwrap())
        })
    }
}

struct World {
    server: Server,
    bridge: Arc<Bridge>,
    clock: Arc<ManualClock>,
    alice: String,
}

impl World {
    async fn new() -> Self {
        let open = |text| Registration::parse(text).unwrap().open(server_name!("localhost")).unwrap();
        let appservices = Appservices::new(vec![open(IRC), open(OLD)]).unwrap();
        let (bridge, clock) = (Arc::new(Bridge::default()), Arc::new(ManualClock::at(1_000_000)));
        let means = (clock.clone(), Db::new(Arc::new(Memory::new())));
        let services = services_by(Config::default(), bridge.clone(), appservices, means).await;
        let server = Server::over(services, Mode::Open);
        let alice = server.register("alice").await;
        Self { server, bridge, clock, alice }
    }

    /// What alice is answered, and what the bridge was asked for it.
    async fn ask(&self, request: &str, body: Value, bridge: Option<(u16, Value)>) -> (Value, Vec<Value>) {
        *self.bridge.answer.lock() = bridge;
        let answer = self.server.met(&self.alice, request, body).await;
        (answer, std::mem::take(&mut *self.bridge.asked.lock()))
    }

    async fn claim(&self, wanted: Value, bridge: Option<(u16, Value)>) -> (Value, Vec<Value>) {
        let (mut answer, asked) =
            self.ask("POST /keys/claim", json!({ "one_time_keys": wanted }), bridge).await;
        (answer["one_time_keys"].take(), asked)
    }

    async fn query(&self, wanted: Value, bridge: Option<(u16, Value)>) -> (Value, Vec<Value>) {
        self.ask("POST /keys/query", json!({ "device_keys": wanted }), bridge).await
    }
}

#[tokio::test]
async fn who_keeps_one_time_keys_is_asked_for_them() {
    let world = World::new().await;
    let body = json!({ "type": "m.login.application_service", "username": "irc_bob", "device_id": "PHONE" });
    let bob = world.server.met("as_irc", "POST /register", body).await;
    let keys = json!({
        "one_time_keys": { "curve25519:ours": "a2V5" },
        "fallback_keys": { "curve25519:last": { "key": "a2V5", "fallback": true } },
    });
    let uploaded = world.server.met(bob["access_token"].as_str().unwrap(), "POST /keys/upload", keys).await;
    assert_eq!(uploaded["one_time_key_counts"]["curve25519"], 1, "{uploaded}");
    let (bob, device) = ("@irc_bob:localhost", json!({ "PHONE": "curve25519" }));
    let ids = |keys: &Value, device: &str| -> Vec<String> {
        let keys = keys[bob][device].as_object().cloned().unwrap_or_default();
        keys.keys().cloned().collect()
    };
    let theirs = Some((
        200,
        json!({
            bob: {
                "PHONE": { "signed_curve25519:other": { "key": "x" }, "curve25519:theirs": "a2V5", "curve25519:more": "a2V5" },
                "DESK": { "curve25519:unasked": "a2V5" },
            },
            "@alice:localhost": { "PHONE": { "curve25519:false": "a2V5" } },
        }),
    ));
    let (keys, asked) = world.claim(json!({ bob: device }), theirs.clone()).await;
    assert_eq!((ids(&keys, "PHONE"), asked.len()), (vec!["curve25519:ours".to_owned()], 0));
    let both = json!({ bob: device, "@alice:localhost": device, "@shared_x:localhost": device, "@old_x:localhost": device });
    let (keys, asked) = world.claim(both, theirs.clone()).await;
    assert_eq!(asked, [json!({ bob: { "PHONE": ["curve25519"] } })], "nobody is asked for others");
    let found = ids(&keys, "PHONE");
    assert!(found.len() == 1 && ["curve25519:theirs", "curve25519:more"].contains(&&*found[0]), "{keys}");
    assert_eq!((keys.as_object().unwrap().len(), ids(&keys, "DESK").len()), (1, 0), "{keys}");
    // A device that this server knows nothing of.
    let desk = Some((200, json!({ bob: { "DESK": { "curve25519:desk": "a2V5" } } })));
    let (keys, _) = world.claim(json!({ bob: { "DESK": "curve25519", "PHONE": "curve25519" } }), desk).await;
    assert_eq!(
        (ids(&keys, "DESK"), ids(&keys, "PHONE")),
        (vec!["curve25519:desk".to_owned()], vec!["curve25519:last".to_owned()])
    );
    // What goes wrong there is as if there were nothing, and for a while nobody waits for it.
    for (answer, rest) in [
        (None, 30),
        (Some((500, json!({}))), 30),
        (Some((200, json!([]))), 30),
        (Some((404, json!({}))), 600),
    ] {
        let (keys, asked) = world.claim(json!({ bob: device }), answer.clone()).await;
        assert_eq!((ids(&keys, "PHONE"), asked.len()), (vec!["curve25519:last".to_owned()], 1), "{answer:?}");
        world.clock.advance(Duration::from_secs(rest - 1));
        let (keys, asked) = world.claim(json!({ bob: device }), theirs.clone()).await;
        assert_eq!((ids(&keys, "PHONE"), asked.len()), (vec!["curve25519:last".to_owned()], 0), "{answer:?}");
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.claim(json!({ bob: device }), theirs).await.1.len(), 1);
}

#[tokio::test]
async fn who_knows_device_keys_is_asked_for_them() {
    let world = World::new().await;
    let keys = |user: &str, device: &str| json!({ "user_id": user, "device_id": device, "algorithms": [], "keys": {}, "signatures": {} });
    let master = |user: &str| json!({ "user_id": user, "usage": ["master"], "keys": { "ed25519:k": "k" } });
    let bob = "@irc_bob:localhost";
    let answer = Some((
        200,
        json!({
            "device_keys": {
                bob: { "PHONE": keys(bob, "PHONE"), "DESK": keys(bob, "DESK"), "FALSE": keys(bob, "TRUE") },
                "@alice:localhost": { "EVIL": keys("@alice:localhost", "EVIL") },
            },
            "master_keys": { bob: master(bob), "@alice:localhost": master("@alice:localhost") },
            "user_signing_keys": { bob: master(bob) },
        }),
    ));
    let devices = |answer: &Value, user: &str| -> Vec<String> {
        let devices = answer["device_keys"][user].as_object().cloned().unwrap_or_default();
        devices.keys().cloned().collect()
    };
    let all = json!({ bob: [], "@alice:localhost": [], "@old_x:localhost": [] });
    let (found, asked) = world.query(all, answer.clone()).await;
    assert_eq!(asked, [json!({ bob: [] })]);
    assert_eq!(devices(&found, bob), ["DESK", "PHONE"], "{found}");
    assert!(devices(&found, "@alice:localhost").is_empty(), "{found}");
    assert_eq!(found["master_keys"], json!({ bob: master(bob) }));
    assert_eq!(found["user_signing_keys"], json!({}), "it is bob's own");
    let (found, _) = world.query(json!({ bob: ["DESK"] }), answer).await;
    assert_eq!(devices(&found, bob), ["DESK"]);
    let (found, asked) = world.query(json!({ bob: [] }), None).await;
    assert_eq!((&found["device_keys"], asked.len()), (&json!({ bob: {} }), 1));
    let (_, asked) = world.query(json!({ "@alice:localhost": [] }), None).await;
    assert!(asked.is_empty());
}
