//! Several servers on one wire.

mod abroad;
mod bridged;
mod calls;
mod edus;
mod entrance;
mod handshakes;
mod hostile;
mod lists;
mod moderation;
mod odd;
mod questions;
mod queues;
mod redacting;
mod relating;
mod rows;
mod setbacks;
mod sluggish;
mod surface;
mod times;
mod twelve;

use std::sync::Arc;

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::{
    appservice::Appservices,
    config::{Config, RegistrationMode},
    http::{App, Foundation, Services, Wire, endpoints},
    keys::SigningKey,
    log::Log,
    peer::Net,
    store::{Db, memory::Memory},
    types::{ManualClock, Membership, Ports, SeededRng},
};

/// A server with every endpoint.
struct Server {
    name: OwnedServerName,
    app: App,
    router: Router,
    clock: Arc<ManualClock>,
}

impl Server {
    async fn new(name: &str, wire: &Wire) -> Self {
        Self::behind(name, wire, Arc::new(wire.clone())).await
    }

    /// A server that sees the others through `net`.
    async fn behind(name: &str, wire: &Wire, net: Arc<dyn Net>) -> Self {
        Self::set_up(name, wire, net, |_| {}).await
    }

    /// One with settings of its own.
    async fn set_up(name: &str, wire: &Wire, net: Arc<dyn Net>, set: impl FnOnce(&mut Config)) -> Self {
        Self::with(name, wire, (net, Appservices::default()), set).await
    }

    /// One with application services too, which it reaches through `net`.
    async fn with(
        name: &str,
        wire: &Wire,
        (net, appservices): (Arc<dyn Net>, Appservices),
        set: impl FnOnce(&mut Config),
    ) -> Self {
        let name = OwnedServerName::try_from(name).unwrap();
        let mut config = Config { server_name: name.clone(), ..Config::default() };
        config.registration.mode = RegistrationMode::Open;
        config.store.engine = crate::config::Engine::Memory;
        set(&mut config);
        let tasks = TaskTracker::new();
        let seed = name.as_bytes()[0];
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let foundation = Foundation {
            appservices,
            signing_key: Arc::new(SigningKey::from_seed(name.clone(), "1", [seed; 32]).unwrap()),
            ports: Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(seed.into())) },
            registration_secret: String::from("secret"),
            old_keys: Vec::new(),
            log: Log::open(Db::new(Arc::new(Memory::new())), &tasks).await.unwrap(),
            config,
            net,
            tasks,
        };
        let app = App::new(Services::open(foundation).await.unwrap());
        let router = endpoints().into_router(app.clone());
        wire.connect(name.clone(), router.clone());
        Self { name, app, router, clock }
    }

    fn user(&self, name: &str) -> OwnedUserId {
        OwnedUserId::try_from(format!("@{name}:{}", self.name)).unwrap()
    }

    /// Makes an account; its access token.
    async fn register(&self, name: &str) -> String {
        let auth = json!({ "type": "m.login.dummy" });
        let body = json!({ "username": name, "password": "secret", "device_id": "PHONE", "auth": auth });
        let answer = self.met("", "POST /register", body).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Asks for `METHOD PATH` of the client-server API: the body of an answer 200, or status and code.
    async fn met(&self, token: &str, request: &str, body: Value) -> Value {
        let (method, path) = request.split_once(' ').unwrap();
        let path = match path.starts_with("/_") {
            true => path.to_owned(),
            false => format!("/_matrix/client/v3{path}"),
        };
        let mut builder = http::Request::builder().method(method).uri(path.replace('#', "%23"));
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(builder.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        match status.is_success() {
            true => answer,
            false => {
                Value::from(format!("{} {}", status.as_u16(), answer["errcode"].as_str().unwrap_or("-")))
            }
        }
    }

    /// A new room of alice's.
    async fn room(&self, token: &str, version: &str, extra: Value) -> OwnedRoomId {
        let mut body = json!({ "room_version": version, "name": "The room" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = self.met(token, "POST /createRoom", body).await;
        answer["room_id"].as_str().unwrap_or_else(|| panic!("{answer}")).try_into().unwrap()
    }

    /// What `user` is to a room, by the room's own state.
    async fn membership(&self, room: &ruma::RoomId, user: &ruma::UserId) -> Option<Membership> {
        self.app.history.membership(room, user).await.unwrap()
    }

    /// The ids of the events of a room's state, sorted.
    async fn state(&self, room: &ruma::RoomId) -> Vec<String> {
        let state = self.app.history.current_state(room).await.unwrap().unwrap();
        let entries = self.app.history.state_of(state, None).await.unwrap();
        let mut ids: Vec<String> = entries.iter().map(|entry| entry.value.event_id.to_string()).collect();
        ids.sort_unstable();
        ids
    }
}

/// Where a room of another server is to be found.
fn via(room: &ruma::RoomId, servers: &[&Server]) -> String {
    let via: Vec<String> = servers.iter().map(|server| format!("via={}", server.name)).collect();
    format!("{}?{}", room.as_str().replace('!', "%21"), via.join("&"))
}
