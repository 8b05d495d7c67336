//! One server: it lives, crashes and lives again.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use ruma::OwnedServerName;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    disk::Disk,
    net::{Door, Sea},
};
use crate::{
    config::Config,
    http::{App, Foundation, Services, endpoints},
    keys::SigningKey,
    log::Log,
    store::{Db, memory::Memory},
    types::{PausedClock, Ports, SeededRng},
};

/// A server between two crashes.
#[derive(Clone)]
pub(super) struct Alive {
    pub(super) app: App,
    door: Door,
}

/// One server.
pub(super) struct Node {
    pub(super) name: OwnedServerName,
    number: u64,
    seed: u64,
    rows: Arc<Memory>,
    lives: Mutex<u64>,
    alive: Mutex<Option<Alive>>,
}

impl Node {
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let name = OwnedServerName::try_from(format!("s{number}.org")).unwrap();
        Self { name, number, seed, rows: Arc::default(), lives: Mutex::new(0), alive: Mutex::default() }
    }

    /// Begins a life with what is on the disk.
    pub(super) async fn boot(&self, sea: &Arc<Sea>, clock: Arc<PausedClock>) {
        let life = CancellationToken::new();
        let lives = {
            let mut lives = self.lives.lock();
            *lives += 1;
            *lives
        };
        let seed = self.seed.wrapping_mul(1_000_000) + self.number * 10_000 + lives;
        let mut config = Config {
            server_name: self.name.clone(),
            presence: self.seed.is_multiple_of(3),
            ..Config::default()
        };
        config.rate_limits.enabled = false;
        // Nobody searches, and an index would have a folder and threads of the machine's.
        config.search.enabled = false;
        config.federation.trusted_key_servers.clear();
        let tasks = TaskTracker::new();
        let disk = Disk::new(self.rows.clone(), life.clone(), seed);
        let secret = [u8::try_from(self.number).unwrap() + 1; 32];
        let foundation = Foundation {
            signing_key: Arc::new(SigningKey::from_seed(self.name.clone(), "1", secret).unwrap()),
            ports: Ports { clock, rng: Arc::new(SeededRng::new(seed)) },
            registration_secret: String::from("secret"),
            old_keys: Vec::new(),
            log: Log::open(Db::new(Arc::new(disk)), &tasks).await.unwrap(),
            config,
            net: Arc::new(sea.port(&self.name, &life)),
            appservices: Default::default(),
            tasks,
        };
        let app = App::new(Services::open(foundation).await.unwrap());
        let door = Door { router: endpoints().into_router(app.clone()), life };
        sea.open(&self.name, door.clone());
        *self.alive.lock() = Some(Alive { app, door });
    }

    /// Everything that was in memory is lost, and what was being done stops where it is.
    pub(super) fn crash(&self) {
        if let Some(alive) = self.alive.lock().take() {
            alive.door.life.cancel();
            alive.app.stopping.cancel();
        }
    }

    pub(super) fn alive(&self) -> Option<Alive> {
        self.alive.lock().clone()
    }

    /// The services, while it lives.
    pub(super) fn app(&self) -> App {
        self.alive().expect("the server lives").app
    }

    /// One request of a client; nothing if the connection breaks.
    pub(super) async fn ask(&self, token: &str, request: &str, body: &Value) -> Option<(u16, Value)> {
        let Alive { door, .. } = self.alive()?;
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = builder.body(body).unwrap();
        let answer = tokio::select! {
            biased;
            () = door.life.cancelled() => return None,
            answer = door.router.oneshot(request) => answer.unwrap(),
        };
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        Some((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

/// `text` as one segment of a path.
pub(super) fn quoted(text: impl AsRef<str>) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.as_ref().bytes().map(byte).collect()
}
