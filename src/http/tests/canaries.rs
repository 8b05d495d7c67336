//! What is secret, wherever it stands in a request or in the settings, is told to nobody whom it does not concern.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use ruma::server_name;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::Lines;
use crate::{
    account::{NewDevice, NewUser},
    appservice::{Appservices, Registration},
    config::Config,
    http::{
        Access, App, Foundation, Front, Services, Source,
        client::testing::{exported, stored},
        endpoints,
    },
    keys::SigningKey,
    log::Log,
    peer::Isolated,
    store::{Db, Store, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

const CONFIG: &str = "
    public_base_url = 'https://matrix.localhost'
    [registration]
    mode = 'token'
    tokens = ['canary-of-the-configuration']
    [voip]
    turn_uris = ['turn:turn.example.org']
    turn_shared_secret = 'canary-turn-secret'
    turn_password = 'canary-turn-password'
    livekit_url = 'https://livekit.example.org'
    livekit_key = 'key'
    livekit_secret = 'canary-livekit-secret'
    [captcha]
    site_key = 'key'
    secret = 'canary-captcha-secret'
    [email]
    host = 'mail.example.org'
    from = 'a@example.org'
    user = 'a'
    password = 'canary-mail-password'
    [[sso.providers]]
    id = 'p'
    name = 'P'
    issuer = 'https://p.example.org'
    client_id = 'us'
    client_secret = 'canary-client-secret'
";

const REGISTRATION: &str = "
id: irc
url: http://localhost:1
as_token: canary-as-token
hs_token: canary-hs-token
sender_localpart: irc_bot
namespaces: { users: [{ exclusive: true, regex: '@irc_.*' }] }
";

/// What is in no row of the store, or only as a hash. Everything in the configuration is among it.
const UNSTORED: [&str; 15] = [
    "canary-of-the-configuration",
    "canary-turn-secret",
    "canary-turn-password",
    "canary-livekit-secret",
    "canary-captcha-secret",
    "canary-mail-password",
    "canary-client-secret",
    "canary-as-token",
    "canary-hs-token",
    "canary-shared-secret",
    "canary-cookie",
    "canary-password",
    "canary-proof",
    "canary-in-a-panic",
    "canary-unknown",
];
/// What is stored, because it is needed again.
const STORED: [&str; 6] = [
    "canary-made-token",
    "canary-pushkey",
    "canary-auth-data",
    "canary-session-data",
    "canary-message",
    "canary-meeting",
];

struct Scene {
    front: Front,
    app: App,
    store: Arc<dyn Store>,
}

impl Scene {
    async fn new() -> Self {
        let (tasks, store) = (TaskTracker::new(), Arc::new(Memory::new()) as Arc<dyn Store>);
        let mut config: Config = toml::from_str(CONFIG).unwrap();
        config.store.engine = crate::config::Engine::Memory;
        let registration = Registration::parse(REGISTRATION).unwrap();
        let appservices =
            Appservices::new(vec![registration.open(server_name!("localhost")).unwrap()]).unwrap();
        let foundation = Foundation {
            signing_key: Arc::new(SigningKey::from_seed(config.server_name.clone(), "1", [1; 32]).unwrap()),
            config,
            ports: Ports { clock: Arc::new(ManualClock::at(0)), rng: Arc::new(SeededRng::new(1)) },
            registration_secret: String::from("canary-shared-secret"),
            old_keys: Vec::new(),
            appservices,
            net: Arc::new(Isolated),
            log: Log::open(Db::new(store.clone()), &tasks).await.unwrap(),
            tasks,
        };
        let app = App::new(Box::pin(Services::open(foundation)).await.unwrap());
        let mut routes = endpoints();
        routes.raw(http::Method::POST, "/panic/{word}", Access::Open, |_, _| async { panic!("a bug") });
        Self { front: Front::new(app.clone(), routes), app, store }
    }

    async fn ask(&self, token: &str, request: &str, body: &Value) -> (u16, String) {
        let (method, path) = request.split_once(' ').unwrap();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/_matrix/client/v3/{path}") };
        let mut builder =
            http::Request::builder().method(method).uri(path).header("cookie", "x=canary-cookie");
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = self.front.answer(builder.body(body).unwrap(), Source::Unix).await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks, and wants to be answered.
    async fn get(&self, token: &str, request: &str, body: Value) -> Value {
        let (status, text) = self.ask(token, request, &body).await;
        assert_eq!(status, 200, "{request}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What administrators can read, as far as it is no answer to who names the secret that is in it.
    async fn administration(&self, token: &str, room: &str) -> String {
        let mut text = String::new();
        let routes = endpoints();
        let admin = routes.listed().iter().filter(|(method, path)| {
            let is_admin = path.contains("/admin/") || path.starts_with("/_lockstep/");
            is_admin && method == http::Method::GET
        });
        for (_, path) in admin {
            // Which registration tokens there are, and which pushers somebody has, is what these are for.
            if path.contains("registration_tokens") || path.ends_with("/pushers") {
                continue;
            }
            let value = |segment: &str| match segment.to_lowercase() {
                name if !name.starts_with('{') => segment.to_owned(),
                name if name.contains("user") => String::from("@alice:localhost"),
                name if name.contains("room") => room.to_owned(),
                _ => String::from("x"),
            };
            let path = path.split('/').map(value).collect::<Vec<_>>().join("/");
            text.push_str(&self.ask(token, &format!("GET {path}"), &Value::Null).await.1);
        }
        text
    }
}

/// Where the secrets of one user are, beside those that are the same in every run.
struct Given {
    token: String,
    room: String,
    delay: String,
    meeting: String,
}

/// Makes an account, a room, and what else has a secret that the server thinks up.
async fn give(scene: &Scene) -> Given {
    let new =
        NewUser { username: Some("alice".into()), password: Some("canary-password".into()), admin: true };
    let session = scene.app.accounts.register(new, NewDevice::default()).await.unwrap();
    let token = session.access_token;
    let room = scene.get(&token, "POST createRoom", json!({})).await["room_id"].as_str().unwrap().to_owned();
    let later = format!("PUT rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=100000");
    let delay = scene.get(&token, &later, json!({ "body": "canary-message" })).await;
    let meeting = "/_matrix/client/unstable/io.element.msc4388/rendezvous";
    let met = scene.get("", &format!("POST {meeting}"), json!({ "data": "canary-meeting" })).await;
    Given {
        token,
        room,
        delay: delay["delay_id"].as_str().unwrap().to_owned(),
        meeting: format!("{meeting}/{}", met["id"].as_str().unwrap()),
    }
}

/// Whose token, which request, with what.
type Request = (String, String, Value);

fn request(token: &str, request: &str, body: Value) -> Request {
    (token.to_owned(), request.to_owned(), body)
}

/// Requests with what proves who somebody is, wherever a request may have it.
fn proofs(token: &str) -> Vec<Request> {
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    let password =
        |word: &str| json!({ "type": "m.login.password", "identifier": identifier, "password": word });
    let of_service = json!({ "type": "m.login.application_service", "username": "irc_x" });
    let wanted = json!({ "type": "m.login.registration_token", "token": "canary-of-the-configuration" });
    let newcomer = json!({ "username": "bob", "password": "canary-proof", "auth": wanted });
    let by_secret = json!({ "nonce": "canary-unknown", "mac": "canary-unknown", "username": "x",
        "password": "canary-proof" });
    let by_token = json!({ "type": "m.login.token", "token": "canary-unknown" });
    let change = json!({ "new_password": 1, "auth": password("canary-proof") });
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity";
    let tokens = "/_synapse/admin/v1/registration_tokens";
    vec![
        request("canary-as-token", "GET account/whoami", Value::Null),
        request("", "GET account/whoami?access_token=canary-as-token", Value::Null),
        request("canary-as-token", "POST register", of_service),
        request("canary-as-token", "POST /_matrix/client/v1/appservice/irc/ping", json!({})),
        request("canary-hs-token", "GET account/whoami", Value::Null),
        request("canary-unknown", "GET sync", Value::Null),
        request("", "GET sync?access_token=canary-unknown&since=canary-unknown", Value::Null),
        request("", &format!("GET account/whoami?access_token={token}"), Value::Null),
        request("", "POST register", newcomer),
        request("", "POST login", password("canary-password")),
        request("", "POST login", password("canary-proof")),
        request("", "POST login", by_token),
        request(token, "POST account/password", change),
        request("", &format!("GET {validity}?token=canary-unknown"), Value::Null),
        request(token, &format!("POST {tokens}/new"), json!({ "token": "canary-made-token" })),
        request(token, &format!("GET {tokens}/canary-made-token"), Value::Null),
        request(token, &format!("PUT {tokens}/canary-unknown"), json!({ "uses_allowed": 1 })),
        request("", "POST /_synapse/admin/v1/register", by_secret),
    ]
}

/// Requests with other secrets.
fn others(Given { token, room, delay, meeting }: &Given) -> Vec<Request> {
    let pusher = json!({ "kind": "http", "app_id": "a", "pushkey": "canary-pushkey", "app_display_name": "a",
        "device_display_name": "a", "lang": "en",
        "data": { "url": "https://p.example.org/_matrix/push/v1/notify" } });
    let broken = json!({ "pushkey": "canary-pushkey", "app_id": 1 });
    let version = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "canary-auth-data" } });
    let session = json!({ "first_message_index": 0, "forwarded_count": 0, "is_verified": false,
        "session_data": { "ciphertext": "canary-session-data" } });
    let unknown = json!({ "session_data": "canary-unknown" });
    let met = json!({ "data": "canary-meeting", "sequence_token": "canary-unknown" });
    let message = json!({ "messages": { "@alice:localhost": { "*": { "x": "canary-message" } } } });
    let delayed = format!("/_matrix/client/v1/delayed_events/{delay}");
    let panics = json!({ "x": "canary-in-a-panic" });
    vec![
        request(token, "POST pushers/set", pusher),
        request(token, "POST pushers/set", broken),
        request("", &format!("POST {delayed}/restart"), json!({})),
        request("", &format!("GET {delayed}"), Value::Null),
        request("", &format!("GET {meeting}"), Value::Null),
        request("", &format!("PUT {meeting}"), met),
        request(token, "GET voip/turnServer", Value::Null),
        request(token, "POST room_keys/version", version),
        request(token, &format!("PUT room_keys/keys/{room}/s?version=1"), session),
        request(token, &format!("PUT room_keys/keys/{room}/s?version=canary-unknown"), unknown),
        request(token, "PUT sendToDevice/m.test/1", message),
        request(token, "PUT sendToDevice/m.test/2", json!({ "messages": "canary-unknown" })),
        request(
            token,
            &format!("PUT rooms/{room}/send/m.room.message/2"),
            json!({ "body": "canary-message" }),
        ),
        request("canary-in-a-panic", "POST /panic/x?access_token=canary-in-a-panic", panics),
    ]
}

/// Row 7.15 of the list of known vulnerabilities (secrets in the log): through the door by which every request comes.
#[tokio::test]
async fn row_7_15_no_secret_is_logged_measured_or_told_to_administrators() {
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    let scene = Scene::new().await;
    let given = give(&scene).await;
    let mut statuses = Vec::new();
    for (token, request, body) in proofs(&given.token).into_iter().chain(others(&given)) {
        let (status, text) = scene.ask(&token, &request, &body).await;
        let is_served = status != 405 && (status != 404 || !text.contains("M_UNRECOGNIZED"));
        assert!(is_served, "{request}: {status} {text}");
        statuses.push(status);
    }
    let good = statuses.iter().filter(|status| **status == 200).count();
    assert!(good >= 12, "{statuses:?}");
    let (_, metrics) = scene.ask("", "GET /metrics", &Value::Null).await;
    let told = scene.administration(&given.token, &given.room).await;
    drop(guard);
    let (logged, stored, exported) = (lines.text(), stored(&scene.app).await, exported(&*scene.store).await);
    assert!(logged.contains("a bug") && logged.contains("/panic/x"), "{logged}");
    assert!(metrics.contains("lockstep_log_head") && told.contains("@alice:localhost"), "{metrics} {told}");
    let meeting = given.meeting.rsplit('/').next().unwrap();
    let made = [&*given.token, &*given.delay, meeting];
    for secret in UNSTORED.iter().chain(&STORED).chain(&made) {
        for (where_to, text) in [("logged", &logged), ("measured", &metrics), ("told", &told)] {
            let around = text.find(secret).map(|at| &text[at.saturating_sub(300)..at + secret.len()]);
            assert_eq!(around, None, "{secret} is {where_to}");
        }
    }
    for secret in UNSTORED.iter().chain(&[&*given.token, meeting]) {
        for (where_to, text) in [("stored", &stored), ("exported", &exported)] {
            assert!(text.contains("@alice:localhost") && !text.contains(secret), "{secret} is {where_to}");
        }
    }
}
