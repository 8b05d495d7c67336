//! A server with files in a folder of its own.

use std::{path::PathBuf, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use ruma::owned_server_name;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::{
    account::{NewDevice, NewUser},
    config::Config,
    http::{App, Foundation, Services, endpoints},
    keys::SigningKey,
    log::Log,
    peer::Isolated,
    store::{Db, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

/// A server, and the tokens of two users.
pub(super) struct Server {
    router: Router,
    pub(super) app: App,
    pub(super) clock: Arc<ManualClock>,
    folder: TempDir,
    pub(super) alice: String,
    pub(super) bob: String,
}

/// An answer whose body is read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// Status and error code.
    pub(super) fn refusal(&self) -> String {
        format!("{} {}", self.status, self.json()["errcode"].as_str().unwrap_or("-"))
    }
}

impl Server {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with other settings.
    pub(super) async fn with(change: impl Fn(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.media.upload_mib = 1;
        change(&mut config);
        let tasks = TaskTracker::new();
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let foundation = Foundation {
            appservices: crate::appservice::Appservices::default(),
            signing_key: Arc::new(
                SigningKey::from_seed(owned_server_name!("localhost"), "1", [1; 32]).unwrap(),
            ),
            config,
            ports: Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)) },
            registration_secret: String::from("secret"),
            old_keys: Vec::new(),
            net: Arc::new(Isolated),
            log: Log::open(Db::new(Arc::new(Memory::new())), &tasks).await.unwrap(),
            tasks,
        };
        let app = App::new(Services::open(foundation).await.unwrap());
        let router = endpoints().into_router(app.clone());
        let mut server = Self { router, app, clock, folder, alice: String::new(), bob: String::new() };
        server.alice = server.register("alice", false).await;
        server.bob = server.register("bob", false).await;
        server
    }

    pub(super) async fn register(&self, name: &str, admin: bool) -> String {
        let user = NewUser { username: Some(String::from(name)), password: None, admin };
        self.app.accounts.register(user, NewDevice::default()).await.unwrap().access_token
    }

    /// Sends `METHOD PATH`.
    pub(super) async fn send(
        &self,
        token: &str,
        request: &str,
        (headers, body): (&[(&str, &str)], Body),
    ) -> Answer {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let response: Response<Body> =
            self.router.clone().oneshot(builder.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, &format!("GET {path}"), (&[], Body::empty())).await
    }

    /// Has alice upload; the part of the address after `mxc://`.
    pub(super) async fn upload(&self, kind: &str, query: &str, bytes: impl Into<Bytes>) -> String {
        let headers: &[_] = if kind.is_empty() { &[] } else { &[("content-type", kind)] };
        let request = format!("POST /_matrix/media/v3/upload{query}");
        let answer = self.send(&self.alice, &request, (headers, Body::from(bytes.into()))).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        let uri = answer.json()["content_uri"].as_str().unwrap().to_owned();
        uri.strip_prefix("mxc://").unwrap().to_owned()
    }

    /// Alice's download of `address`.
    pub(super) async fn download(&self, address: &str) -> Answer {
        self.get(&self.alice, &format!("/_matrix/client/v1/media/download/{address}")).await
    }

    /// Alice's thumbnail of `address`.
    pub(super) async fn thumbnail(&self, address: &str, query: &str) -> Answer {
        self.get(&self.alice, &format!("/_matrix/client/v1/media/thumbnail/{address}?{query}")).await
    }

    /// The paths of all files below the folder for files.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: PathBuf, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path().join("media"), &mut found);
        found.sort();
        found
    }
}
