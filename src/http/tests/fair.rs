//! What one client has the server do leaves enough for the others.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use futures_util::poll;
use http::{Method, Request};
use http_body_util::BodyExt;
use ruma::ServerName;
use serde_json::Value;
use tower::ServiceExt;

use super::{services, services_with};
use crate::{
    account::{NewDevice, NewUser},
    config::Config,
    http::{Access, App, Class, Peer, Routes, endpoints},
    limits::{POLLS_EACH_MAX, REQUESTS_EACH_MAX, STRANGERS_EACH_MAX, STRANGERS_MAX},
    peer::{Bounds, Isolated, Net, NetError},
    store::BoxFuture,
};

/// Endpoints for which no token is needed and that are not limited: none of them asks anybody else.
const UNLIMITED: &str = include_str!("unlimited.tsv");
/// Endpoints that ask others, for whoever has no token too.
const ASKING: [(&str, &str); 9] = [
    ("GET", "/_matrix/client/v3/publicRooms"),
    ("GET", "/_matrix/client/v3/profile/{user_id}"),
    ("GET", "/_matrix/client/v3/profile/{user_id}/{field}"),
    ("GET", "/_matrix/client/v3/directory/room/{room_alias}"),
    ("GET", "/_matrix/client/v1/room_summary/{room_id_or_alias}"),
    ("GET", "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}"),
    ("POST", "/_matrix/key/v2/query"),
    ("GET", "/_matrix/key/v2/query/{server_name}"),
    ("POST", "/_matrix/livekit/jwt/get_token"),
];

/// A new endpoint without a token has to be put into one of the tables.
#[test]
fn who_has_no_token_has_others_asked_only_so_often() {
    let routes = endpoints();
    let all = || routes.listed().iter().zip(routes.judged());
    let open = all().filter(|(_, (access, _))| matches!(access, Access::Open | Access::Optional));
    let unlimited: BTreeSet<String> = open
        .filter(|(_, (_, class))| *class == Class::Free)
        .map(|((method, path), _)| format!("{method}\t{path}"))
        .collect();
    let expected: BTreeSet<String> = UNLIMITED.lines().map(String::from).collect();
    let (new, gone): (Vec<_>, Vec<_>) =
        (unlimited.difference(&expected).collect(), expected.difference(&unlimited).collect());
    assert!(new.is_empty() && gone.is_empty(), "not limited: {new:#?}; limited now, or gone: {gone:#?}");
    for (method, path) in ASKING {
        let class = all().find(|((known, template), _)| known == method && *template == path);
        assert_eq!(class.map(|(_, (_, class))| *class), Some(Class::General), "{method} {path}");
    }
}

/// A network in which nobody ever answers.
struct Hanging;

impl Net for Hanging {
    fn exchange<'a>(
        &'a self,
        _: &'a ServerName,
        _: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(std::future::pending())
    }
}

struct Server {
    app: App,
    router: Router,
}

type Waiting = Pin<Box<dyn Future<Output = Response> + Send>>;

impl Server {
    async fn new(config: Config, net: Arc<dyn Net>) -> Self {
        let app = App::new(services_with(config, net).await);
        Self { router: endpoints().into_router(app.clone()), app }
    }

    async fn register(&self, name: &str) -> String {
        let user = NewUser { username: Some(String::from(name)), password: None, admin: false };
        self.app.accounts.register(user, NewDevice::default()).await.unwrap().access_token
    }

    fn ask(&self, request: &str, token: &str, ip: &str) -> Waiting {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let peer = Peer { ip: Some(ip.parse().unwrap()), ..Peer::default() };
        let request = builder.extension(peer).body(Body::empty()).unwrap();
        let router = self.router.clone();
        Box::pin(async move { router.oneshot(request).await.unwrap() })
    }
}

/// Lets all of them go on until they wait.
async fn settle(waiting: &mut [Waiting]) {
    for _ in 0..20 {
        for one in waiting.iter_mut() {
            assert!(poll!(one).is_pending());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn look_ups_of_strangers_that_hang_keep_no_user_from_being_served() {
    let server = Server::new(Config::default(), Arc::new(Hanging)).await;
    let alice = server.register("alice").await;
    let mut hanging = Vec::new();
    for number in 0..STRANGERS_MAX {
        let request = match number % 3 {
            0 => format!("GET /_matrix/client/v3/profile/@x:{number}.org"),
            1 => format!("GET /_matrix/client/v3/publicRooms?server={number}.org"),
            _ => format!("GET /_matrix/client/v3/directory/room/%23x:{number}.org"),
        };
        let ip = format!("10.0.0.{}", number / STRANGERS_EACH_MAX);
        hanging.push(server.ask(&request, "", &ip));
    }
    settle(&mut hanging).await;
    assert_eq!(server.app.budget.used(), (STRANGERS_MAX, 0));
    let status =
        async |request: &str, token: &str, ip: &str| server.ask(request, token, ip).await.status().as_u16();
    let profile = "GET /_matrix/client/v3/profile/@x:more.org";
    assert_eq!(status(profile, "", "10.0.0.99").await, 503);
    assert_eq!(status("GET /_matrix/client/v3/sync?timeout=0", &alice, "10.0.0.1").await, 200);
    let mut own = [server.ask(profile, &alice, "10.0.0.1")];
    settle(&mut own).await;
    // A token that is none makes nobody less than a stranger.
    assert_eq!(status(profile, "nonsense", "10.0.0.99").await, 503);
    hanging.pop();
    assert_eq!(status(profile, "", "10.0.0.0").await, 429, "the address has as many as it may have");
    let mut another = [server.ask(profile, "", "10.0.0.99")];
    settle(&mut another).await;
}

#[tokio::test]
async fn files_that_are_waited_for_take_nothing_of_what_others_need() {
    let mut config = Config::default();
    config.limits.concurrent_requests = 4;
    let server = Server::new(config, Arc::new(Isolated)).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let created = server.ask("POST /_matrix/media/v1/create", &alice, "10.0.0.1").await;
    let created = created.into_body().collect().await.unwrap().to_bytes();
    let created: Value = serde_json::from_slice(&created).unwrap();
    let address = created["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let download = format!("GET /_matrix/client/v1/media/download/{address}?timeout_ms=60000");
    let mut waiting: Vec<_> =
        (0..POLLS_EACH_MAX).map(|_| server.ask(&download, &alice, "10.0.0.1")).collect();
    settle(&mut waiting).await;
    assert_eq!(server.app.budget.used(), (0, POLLS_EACH_MAX));
    let status =
        async |request: &str, token: &str| server.ask(request, token, "10.0.0.1").await.status().as_u16();
    assert_eq!(status(&download, &alice).await, 429);
    assert_eq!(status("GET /_matrix/client/v3/account/whoami", &alice).await, 200);
    assert_eq!(status("GET /_matrix/client/v3/sync?timeout=0", &bob).await, 200);
    waiting.truncate(1);
    assert_eq!(status("GET /_matrix/client/v3/sync?timeout=0", &alice).await, 200);
}

#[tokio::test]
async fn one_address_has_a_part_of_the_requests() {
    let mut routes = Routes::default();
    routes.raw(Method::GET, "/hang", Access::Open, |_, _| async { std::future::pending().await });
    let app = App::new(services().await);
    let server = Server { router: routes.into_router(app.clone()), app };
    let mut hanging: Vec<_> =
        (0..REQUESTS_EACH_MAX).map(|_| server.ask("GET /hang", "", "10.0.0.1")).collect();
    settle(&mut hanging).await;
    assert_eq!(server.ask("GET /hang", "", "10.0.0.1").await.status().as_u16(), 429);
    let mut other = [server.ask("GET /hang", "", "10.0.0.2")];
    settle(&mut other).await;
    assert_eq!(server.app.budget.used(), (REQUESTS_EACH_MAX + 1, 0));
}
