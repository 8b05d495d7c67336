//! A small client for the client-server API: just enough HTTP to set a scene and to look at answers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Outcome;

/// How long any request may take, long polls included; longer if `DEADLINE_MS` says so.
fn request_deadline() -> Duration {
    let asked = std::env::var("DEADLINE_MS").ok().and_then(|text| text.parse().ok());
    asked.map_or(Duration::ZERO, Duration::from_millis).max(Duration::from_secs(120))
}

/// The password of every user that [`Client::register`] makes.
pub const PASSWORD: &str = "correct horse battery";

/// An answer as it came, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub bytes: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The Matrix error code, or nothing.
    pub fn errcode(&self) -> String {
        self.json()["errcode"].as_str().unwrap_or_default().to_owned()
    }
}

/// One device, or nobody yet, talking to one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// The full user id.
    pub user_id: String,
    /// The device id.
    pub device_id: String,
    /// The access token; empty before login.
    pub token: String,
}

impl Client {
    /// A client without a token.
    pub fn anonymous(base: &str) -> Outcome<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(request_deadline()).build()?;
        let (user_id, device_id, token) = Default::default();
        Ok(Self { http, base: base.to_owned(), user_id, device_id, token })
    }

    /// Registers a new user through the dummy stage.
    pub async fn register(&self, name: &str) -> Outcome<Self> {
        let mut request = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        let path = "/_matrix/client/v3/register";
        let client = self.nobody();
        let mut answer = client.ask(Method::POST, path, Some(&request)).await?;
        if answer.status == 401 {
            request["auth"]["session"] = answer.json()["session"].clone();
            answer = client.ask(Method::POST, path, Some(&request)).await?;
        }
        client.signed_in(&answer)
    }

    /// A new device of a user that [`Client::register`] made.
    pub async fn login(&self, user: &str) -> Outcome<Self> {
        let identifier = json!({"type": "m.id.user", "user": user});
        let request = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        let client = self.nobody();
        let answer = client.ask(Method::POST, "/_matrix/client/v3/login", Some(&request)).await?;
        client.signed_in(&answer)
    }

    /// The same connections without a token.
    pub fn nobody(&self) -> Self {
        let (user_id, device_id, token) = Default::default();
        Self { user_id, device_id, token, ..self.clone() }
    }

    fn signed_in(mut self, answer: &Answer) -> Outcome<Self> {
        let body = answer.json();
        let field = |name: &str| match body[name].as_str() {
            Some(value) => Ok(value.to_owned()),
            None => Err(format!("no {name} in the answer {}: {body}", answer.status)),
        };
        self.user_id = field("user_id")?;
        self.device_id = field("device_id")?;
        self.token = field("access_token")?;
        Ok(self)
    }

    /// Sends a request and returns the answer whatever it is.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Answer> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.ask_bytes(method, path, body).await
    }

    /// The same with a body that need not be JSON.
    pub async fn ask_bytes(&self, method: Method, path: &str, body: Option<Bytes>) -> Outcome<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await?;
        Ok(Answer { status: answer.status().as_u16(), bytes: answer.bytes().await? })
    }

    /// Uploads a file and returns the answer.
    pub async fn upload(&self, path: &str, kind: &str, bytes: impl Into<reqwest::Body>) -> Outcome<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let answer = request.header("content-type", kind).body(bytes).send().await?;
        match answer.status().as_u16() {
            200 => Ok(serde_json::from_slice(&answer.bytes().await?)?),
            status => Err(format!("upload: {status} {}", answer.text().await?).into()),
        }
    }

    /// Sends a request that must succeed, and returns the bytes of the answer.
    pub async fn bytes(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Bytes> {
        let answer = self.ask(method.clone(), path, body).await?;
        match answer.status {
            200..=299 => Ok(answer.bytes),
            status => Err(format!("{method} {path}: {status} {}", answer.json()).into()),
        }
    }

    /// Downloads what must be there without keeping it, and returns how many bytes came.
    pub async fn drain(&self, path: &str) -> Outcome<usize> {
        let request = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let mut answer = request.send().await?.error_for_status()?;
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await? {
            bytes += chunk.len();
        }
        Ok(bytes)
    }

    /// The same connections under the token of an application service.
    pub fn service(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.nobody() }
    }

    /// GET that must succeed.
    pub async fn get(&self, path: &str) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.bytes(Method::GET, path, None).await?)?)
    }

    /// PUT that must succeed.
    pub async fn put(&self, path: &str, body: &Value) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.bytes(Method::PUT, path, Some(body)).await?)?)
    }

    /// POST that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.bytes(Method::POST, path, Some(body)).await?)?)
    }

    /// Creates a room and returns its id.
    pub async fn create_room(&self, request: &Value) -> Outcome<String> {
        let made = self.post("/_matrix/client/v3/createRoom", request).await?;
        Ok(made["room_id"].as_str().ok_or("no room_id")?.to_owned())
    }

    /// Joins a room by its id.
    pub async fn join(&self, room: &str) -> Outcome<()> {
        self.post(&format!("/_matrix/client/v3/join/{room}"), &json!({})).await.map(|_| ())
    }

    /// Sends a text message with a fresh transaction id, and returns its event id.
    pub async fn say(&self, room: &str, body: &str) -> Outcome<String> {
        let content = json!({"msgtype": "m.text", "body": body});
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{}", txn_id());
        let sent = self.put(&path, &content).await?;
        Ok(sent["event_id"].as_str().ok_or("no event_id")?.to_owned())
    }

    /// Syncs from `since` (empty for the first time) and waits up to `wait_ms` for news.
    pub async fn sync(&self, since: &str, wait_ms: u32) -> Outcome<Value> {
        self.get(&sync_path(since, wait_ms)).await
    }
}

/// The path of a sync.
pub fn sync_path(since: &str, wait_ms: u32) -> String {
    match since {
        "" => format!("/_matrix/client/v3/sync?timeout={wait_ms}"),
        since => format!("/_matrix/client/v3/sync?timeout={wait_ms}&since={since}"),
    }
}

/// A transaction id that this process has not used before.
pub fn txn_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
