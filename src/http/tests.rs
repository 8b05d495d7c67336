//! The harness by table: what is answered before and after a handler.

mod canaries;
mod fair;
mod found;
mod model;
mod surface;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use ruma::{
    api::client::{
        account::whoami,
        message::send_message_event,
        profile::get_avatar_url,
        room::create_room,
        session::{logout, refresh_token},
        state::send_state_event,
    },
    device_id, user_id,
};
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::{
    Access, App, Budget, Call, Failure, Foundation, Front, Routes, Services, Source, auth::Authenticate,
};
use crate::{
    account::{Caller, Standing},
    appservice::Appservices,
    config::{Config, Engine},
    keys::SigningKey,
    limits::BODY_BYTES_MAX,
    log::Log,
    peer::{Isolated, Net},
    store::{BoxFuture, Db, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

/// Knows one token.
struct OneToken;

impl Authenticate for OneToken {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(Caller, Standing), Failure>> {
        let caller = Caller {
            user_id: user_id!("@alice:localhost").to_owned(),
            device_id: device_id!("PHONE").to_owned(),
        };
        let answer =
            if token == "good" { Ok((caller, Standing::Good)) } else { Err(Failure::unknown_token(true)) };
        Box::pin(async move { answer })
    }
}

/// Knows one token until it is shut.
#[derive(Default)]
struct Door(std::sync::atomic::AtomicBool);

impl Authenticate for Door {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(Caller, Standing), Failure>> {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            true => Box::pin(async { Err(Failure::unknown_token(false)) }),
            false => OneToken.authenticate(token),
        }
    }
}

async fn app() -> App {
    let mut services = services().await;
    services.gate = Arc::new(OneToken);
    services.budget = Budget::new(2, 2);
    App::new(services)
}

/// Services over the memory engine.
pub(super) async fn services() -> Services {
    services_with(Config::default(), Arc::new(Isolated)).await
}

/// As [`services`], with other settings and another network.
pub(super) async fn services_with(config: Config, net: Arc<dyn Net>) -> Services {
    services_for(config, net, Appservices::default()).await
}

/// As [`services_with`], with application services.
/// Services whose clock is `clock`.
pub(super) async fn services_at(config: Config, clock: Arc<ManualClock>) -> Services {
    services_over(config, clock, Db::new(Arc::new(Memory::new()))).await
}

/// The same over what a store holds already.
pub(super) async fn services_over(config: Config, clock: Arc<ManualClock>, db: Db) -> Services {
    services_by(config, Arc::new(Isolated), Appservices::default(), (clock, db)).await
}

/// Services of a server among others.
pub(super) async fn services_among(config: Config, net: Arc<dyn Net>, clock: Arc<ManualClock>) -> Services {
    services_by(config, net, Appservices::default(), (clock, Db::new(Arc::new(Memory::new())))).await
}

pub(super) async fn services_for(config: Config, net: Arc<dyn Net>, appservices: Appservices) -> Services {
    let db = Db::new(Arc::new(Memory::new()));
    services_by(config, net, appservices, (Arc::new(ManualClock::at(0)), db)).await
}

pub(super) async fn services_by(
    mut config: Config,
    net: Arc<dyn Net>,
    appservices: Appservices,
    (clock, db): (Arc<ManualClock>, Db),
) -> Services {
    config.store.engine = Engine::Memory;
    let tasks = TaskTracker::new();
    let log = Log::open(db, &tasks).await.unwrap();
    // In a box: it holds every service and all settings.
    Box::pin(Services::open(Foundation {
        signing_key: Arc::new(SigningKey::from_seed(config.server_name.clone(), "1", [1; 32]).unwrap()),
        config,
        ports: Ports { clock, rng: Arc::new(SeededRng::new(1)) },
        registration_secret: String::from("secret"),
        old_keys: Vec::new(),
        appservices,
        net,
        log,
        tasks,
    }))
    .await
    .unwrap()
}

async fn whoami(_: App, caller: Caller, _: whoami::v3::Request) -> Result<whoami::v3::Response, Failure> {
    Ok(whoami::v3::Response { user_id: caller.user_id, device_id: Some(caller.device_id), is_guest: false })
}

async fn logout(_: App, _: Caller, _: logout::v3::Request) -> Result<logout::v3::Response, Failure> {
    Ok(logout::v3::Response::new())
}

async fn refresh(
    _: App,
    request: refresh_token::v3::Request,
) -> Result<refresh_token::v3::Response, Failure> {
    Ok(refresh_token::v3::Response::new(request.refresh_token))
}

async fn create(
    _: App,
    _: Caller,
    _: create_room::v3::Request,
) -> Result<create_room::v3::Response, Failure> {
    Err(Failure::forbidden("not here"))
}

async fn say(
    _: App,
    _: Caller,
    request: send_message_event::v3::Request,
) -> Result<send_message_event::v3::Response, Failure> {
    let event_id = format!("${}", request.txn_id);
    Ok(send_message_event::v3::Response::new(event_id.try_into().map_err(Failure::internal)?))
}

async fn set_state(
    _: App,
    _: Caller,
    request: send_state_event::v3::Request,
) -> Result<send_state_event::v3::Response, Failure> {
    let event_id = format!("$key-{}", request.state_key);
    Ok(send_state_event::v3::Response::new(event_id.try_into().map_err(Failure::internal)?))
}

async fn avatar(
    _: App,
    caller: Option<Caller>,
    _: get_avatar_url::v3::Request,
) -> Result<get_avatar_url::v3::Response, Failure> {
    Ok(get_avatar_url::v3::Response::new(caller.map(|_| "mxc://localhost/known".into())))
}

async fn echo(_: App, call: Call) -> Result<Response, Failure> {
    Ok(Response::new(Body::from(call.body)))
}

async fn router() -> Router {
    let mut routes = Routes::default();
    routes.add::<whoami::v3::Request, _>(whoami);
    routes.add::<logout::v3::Request, _>(logout);
    routes.add::<refresh_token::v3::Request, _>(refresh);
    routes.add::<create_room::v3::Request, _>(create);
    routes.add::<send_message_event::v3::Request, _>(say);
    routes.add::<send_state_event::v3::Request, _>(set_state);
    routes.add_at::<send_state_event::v3::Request, _>(
        &["/_matrix/client/v3/rooms/{room_id}/state/{event_type}/"],
        set_state,
    );
    routes.add::<get_avatar_url::v3::Request, _>(avatar);
    routes.raw(Method::POST, "/echo/{name}", Access::Open, echo);
    routes.into_router(app().await)
}

/// Sends `METHOD PATH [TOKEN]` with a body; the answer is `STATUS errcode-or-body`.
async fn answer(request: &str, body: impl Into<Body>) -> String {
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut builder = http::Request::builder().method(method).uri(path);
    if let Some(token) = words.next() {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    let response = router().await.oneshot(builder.body(body.into()).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let errcode = |value: Value| value.get("errcode").and_then(Value::as_str).map(String::from);
    let shown = serde_json::from_str(&text).ok().and_then(errcode).unwrap_or(text);
    format!("{} {shown}", status.as_u16())
}

#[track_caller]
fn check(request: &'static str, body: &'static str, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(answer(request, body)), expected, "{request} {body}");
}

const SEND: &str = "PUT /_matrix/client/v3/rooms/!a:b/send/m.room.message/t1 good";

#[test]
fn tokens() {
    let alice = r#"200 {"user_id":"@alice:localhost","device_id":"PHONE"}"#;
    check("GET /_matrix/client/v3/account/whoami", "", "401 M_MISSING_TOKEN");
    check("GET /_matrix/client/v3/account/whoami bad", "", "401 M_UNKNOWN_TOKEN");
    check("GET /_matrix/client/v3/account/whoami good", "", alice);
    check("GET /_matrix/client/r0/account/whoami good", "", alice);
    check("GET /_matrix/client/v3/account/whoami?access_token=good", "", alice);
    check("GET /_matrix/client/v3/account/whoami?access_token=bad", "", "401 M_UNKNOWN_TOKEN");
}

#[test]
fn an_optional_token_must_be_valid() {
    check("GET /_matrix/client/v3/profile/@bob:b/avatar_url", "", "200 {}");
    check("GET /_matrix/client/v3/profile/@bob:b/avatar_url bad", "", "401 M_UNKNOWN_TOKEN");
    let known = r#"200 {"avatar_url":"mxc://localhost/known"}"#;
    check("GET /_matrix/client/v3/profile/@bob:b/avatar_url good", "", known);
}

#[test]
fn the_token_is_judged_before_the_body() {
    check("PUT /_matrix/client/v3/rooms/!a:b/send/m.room.message/t1", "{", "401 M_MISSING_TOKEN");
}

/// Who was let in and let the body wait is not who asks by then.
#[tokio::test]
async fn callers_are_judged_again_after_a_body_that_took_long() {
    for (waits, shut_out, expected) in [(0, true, 403), (2, false, 403), (2, true, 401)] {
        let clock = Arc::new(ManualClock::at(0));
        let gate = Arc::new(Door::default());
        let mut services = services_at(Config::default(), clock.clone()).await;
        services.gate = gate.clone();
        let mut routes = Routes::default();
        routes.add::<create_room::v3::Request, _>(create);
        let router = routes.into_router(App::new(services));
        let body = futures_util::stream::once(async move {
            clock.advance(std::time::Duration::from_secs(waits));
            gate.0.store(shut_out, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, std::io::Error>("{}")
        });
        let request = http::Request::builder().method("POST").uri("/_matrix/client/v3/createRoom");
        let request = request.header("authorization", "Bearer good").body(Body::from_stream(body)).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{waits} {shut_out}");
    }
}

#[test]
fn bodies() {
    let refresh = "POST /_matrix/client/v3/refresh";
    check(refresh, r#"{"refresh_token":"r"}"#, r#"200 {"access_token":"r"}"#);
    check(refresh, r#"{"refresh_token":1}"#, "400 M_BAD_JSON");
    check(refresh, r#"{"refresh_token":1"#, "400 M_NOT_JSON");
    check(refresh, "{}", "400 M_BAD_JSON");
    check(refresh, "", "400 M_BAD_JSON");
    check(refresh, r#"["r"]"#, "400 M_BAD_JSON");
    check(refresh, r#"["r""#, "400 M_NOT_JSON");
    check(refresh, "hello", "400 M_NOT_JSON");
    check(SEND, r#"{"body":"hi"}"#, r#"200 {"event_id":"$t1"}"#);
    check(SEND, "", "400 M_NOT_JSON");
    check(SEND, "[]", "400 M_BAD_JSON");
    check(SEND, r#"{"body":"hi"} x"#, "400 M_NOT_JSON");
    check("POST /_matrix/client/v3/createRoom good", r#"{"invite":7}"#, "400 M_BAD_JSON");
    check("POST /_matrix/client/v3/createRoom good", "{}", "403 M_FORBIDDEN");
    check("POST /_matrix/client/v3/createRoom good", "", "403 M_FORBIDDEN");
    check("POST /_matrix/client/v3/logout good", "", "200 {}");
    check("POST /_matrix/client/v3/logout good", "{}", "200 {}");
    check("POST /echo/x", "not json", "200 not json");
}

#[tokio::test]
async fn bytes_that_are_not_utf8() {
    let body = b"{\"refresh_token\":\"\xff\"}".to_vec();
    assert_eq!(answer("POST /_matrix/client/v3/refresh", body).await, "400 M_NOT_JSON");
}

#[tokio::test]
async fn large_bodies() {
    let body = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(answer("POST /_matrix/client/v3/refresh", body).await, "413 M_TOO_LARGE");
}

#[test]
fn paths() {
    check("GET /_matrix/client/v3/nowhere", "", "404 M_UNRECOGNIZED");
    check("GET /", "", "404 M_UNRECOGNIZED");
    check("DELETE /_matrix/client/v3/account/whoami", "", "405 M_UNRECOGNIZED");
    check("PUT /_matrix/client/v3/rooms/nonsense/send/m.room.message/t1 good", "{}", "400 M_INVALID_PARAM");
    check(
        "PUT /_matrix/client/v3/rooms/!a:b/send/m.room.message/a%2Fb good",
        "{}",
        r#"200 {"event_id":"$a/b"}"#,
    );
    check("PUT /_matrix/client/v3/rooms/!a:b/send/m.room.message/%ff good", "{}", "400 M_INVALID_PARAM");
    check("PUT /_matrix/client/v3/rooms/!a:b/state/m.x/k good", "{}", r#"200 {"event_id":"$key-k"}"#);
    check("PUT /_matrix/client/v3/rooms/!a:b/state/m.x/ good", "{}", r#"200 {"event_id":"$key-"}"#);
}

#[tokio::test]
async fn failures_on_the_wire() {
    use std::time::Duration;

    let cases = [
        (
            Failure::limit_exceeded(Duration::from_millis(1500)),
            r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500,"error":"Too many requests"}"#,
        ),
        (
            Failure::unknown_token(true),
            r#"{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true,"error":"The access token is not valid"}"#,
        ),
        (
            Failure::custom(StatusCode::BAD_REQUEST, "ORG.X", "no").with("more", 1),
            r#"{"errcode":"ORG.X","error":"no","more":1}"#,
        ),
    ];
    for (failure, expected) in cases {
        let status = failure.status();
        let response = failure.into_response();
        assert_eq!(response.status(), status);
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(
            response.headers().get("retry-after").map(|v| v.to_str().unwrap()),
            limited.then_some("2")
        );
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }
}

async fn front() -> Front {
    let mut routes = Routes::default();
    routes.add::<whoami::v3::Request, _>(whoami);
    routes.raw(Method::GET, "/panic", Access::Open, |_, _| async { panic!("a bug") });
    routes.raw(Method::GET, "/large", Access::Open, |_, _| async {
        Ok(axum::Json("x".repeat(10_000)).into_response())
    });
    routes.raw(Method::GET, "/hang", Access::Open, |app: App, _| async move {
        app.stopping.cancelled().await;
        Ok(Response::new(Body::empty()))
    });
    routes.feature("org.example.works");
    Front::new(app().await, routes)
}

async fn knock(front: &Front, method: &str, path: &str) -> Response {
    let request = http::Request::builder().method(method).uri(path).header("accept-encoding", "gzip");
    let source = Source::Tcp([127, 0, 0, 1].into());
    front.answer(request.body(Body::empty()).unwrap(), source).await
}

#[tokio::test]
async fn every_answer_lets_browsers_in() {
    let front = front().await;
    let cases = [
        ("OPTIONS", "/_matrix/client/v3/account/whoami", 204),
        ("OPTIONS", "/nowhere", 204),
        ("GET", "/_matrix/client/v3/account/whoami", 401),
        ("GET", "/nowhere", 404),
        ("DELETE", "/_matrix/client/v3/account/whoami", 405),
        ("GET", "/panic", 500),
        ("GET", "/_matrix/client/versions", 200),
    ];
    for (method, path, status) in cases {
        let response = knock(&front, method, path).await;
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{method} {path}");
        let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("Authorization"));
    }
}

#[tokio::test]
async fn versions_name_the_features_that_work() {
    let response = knock(&front().await, "GET", "/_matrix/client/versions").await;
    let body: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["versions"][0], "v1.1");
    assert_eq!(body["unstable_features"], serde_json::json!({ "org.example.works": true }));
}

#[tokio::test]
async fn large_json_is_compressed() {
    let front = front().await;
    assert_eq!(knock(&front, "GET", "/large").await.headers()["content-encoding"], "gzip");
    assert!(!knock(&front, "GET", "/nowhere").await.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn a_full_server_says_so() {
    let front = front().await;
    let (mut first, mut second) =
        (Box::pin(knock(&front, "GET", "/hang")), Box::pin(knock(&front, "GET", "/hang")));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    let refused = knock(&front, "GET", "/hang").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "2");
    drop(first);
    assert_eq!(knock(&front, "GET", "/large").await.status(), StatusCode::OK);
}

/// Collects what is logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Lines {
    /// Collects what this thread logs until the guard goes.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish())
    }

    /// What has been logged.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    // With a single subscriber, tracing asks only the thread that first passes a line whether anybody
    // listens, and remembers a "no" for all; tests of other threads pass the same lines.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    let front = front().await;
    for (path, token) in [("/_matrix/client/v3/account/whoami?access_token=CANARY", ""), ("/panic", "CANARY")]
    {
        let request = http::Request::builder().uri(path).header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from(r#"{"password":"CANARY","name":1}"#)).unwrap();
        front.answer(request, Source::Unix).await;
    }
    drop(guard);
    let text = lines.text();
    assert!(text.contains("/_matrix/client/v3/account/whoami") && text.contains("a bug"), "{text}");
    assert!(!text.contains("CANARY"), "{text}");
}
