//! A client: what one device asks for, and what it believes by what it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{
    CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId,
    canonical_json::to_canonical_value,
    serde::Base64,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;

use super::node::{Node, quoted};
use crate::account::NewSession;

/// What one client believes of one room that its user is in.
#[derive(Default)]
pub(super) struct Believed {
    /// Events in the order in which they came, and whether a gap lies before each.
    pub(super) timeline: Vec<(OwnedEventId, bool)>,
    pub(super) state: BTreeMap<(String, String), Value>,
}

/// What a client has been told so far.
#[derive(Default)]
pub(super) struct Seen {
    since: Option<String>,
    pub(super) rooms: BTreeMap<OwnedRoomId, Believed>,
    /// To-device messages: who sent them, from which device, the how-manieth.
    pub(super) messages: Vec<(String, String, u64)>,
    /// The devices of users; nothing where they have to be asked for.
    pub(super) lists: BTreeMap<OwnedUserId, Option<Value>>,
}

/// One device, logged in for good.
pub(super) struct Client {
    pub(super) user: OwnedUserId,
    pub(super) device: String,
    pub(super) node: Arc<Node>,
    token: String,
    limit: usize,
    pub(super) seen: Mutex<Seen>,
    /// How many to-device messages it has sent. It sends one after the other.
    pub(super) sent: AsyncMutex<u64>,
}

impl Client {
    /// Logs a device in and publishes its keys.
    pub(super) async fn new(node: &Arc<Node>, user: &OwnedUserId, device: &str, limit: usize) -> Self {
        let token = log_in(node, user, device).await;
        let (user, device, node) = (user.clone(), String::from(device), node.clone());
        Self { user, device, node, token, limit, seen: Mutex::default(), sent: AsyncMutex::default() }
    }

    /// One request to `METHOD PATH` of the client-server API; nothing if the connection breaks.
    pub(super) async fn ask(&self, request: &str, body: &Value) -> Option<(u16, Value)> {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = self.node.ask(&self.token, &format!("{method} /_matrix/client/v3{path}"), body).await;
        tracing::debug!("{} {request} {body}: {answer:?}", self.user);
        answer
    }

    /// Asks for news; whether there was any. The answer may be lost.
    pub(super) async fn poll(&self, timeout_ms: u64, is_lost: bool) -> Option<bool> {
        let filter = json!({ "room": { "timeline": { "limit": self.limit } } }).to_string();
        let mut path = format!("/sync?use_state_after=true&timeout={timeout_ms}&filter={}", quoted(filter));
        let since = self.seen.lock().since.clone();
        if let Some(since) = &since {
            path += &format!("&since={}", quoted(since));
        }
        let (status, answer) = self.ask(&format!("GET {path}"), &Value::Null).await?;
        if is_lost || status >= 500 {
            return None;
        }
        assert_eq!(status, 200, "{answer}");
        let mut seen = self.seen.lock();
        seen.take(&answer, &self.user);
        let next = answer["next_batch"].as_str().map(str::to_owned);
        let has_news = next != since;
        seen.since = next;
        Some(has_news)
    }

    /// Asks for the devices of those whose devices have changed; whether nobody is left.
    pub(super) async fn refresh(&self) -> bool {
        let wanted = |seen: &Seen| -> Vec<OwnedUserId> {
            seen.lists.iter().filter(|(_, list)| list.is_none()).map(|(user, _)| user.clone()).collect()
        };
        let users = wanted(&self.seen.lock());
        if users.is_empty() {
            return true;
        }
        let query: BTreeMap<_, _> = users.iter().map(|user| (user, Vec::<String>::new())).collect();
        let answer = self.ask("POST /keys/query", &json!({ "device_keys": query, "timeout": 5_000 })).await;
        let Some((200, answer)) = answer else { return false };
        let mut seen = self.seen.lock();
        for user in users {
            if answer["failures"].get(user.server_name().as_str()).is_none() {
                let devices = answer["device_keys"].get(user.as_str()).cloned();
                seen.lists.insert(user, Some(devices.unwrap_or_else(|| json!({}))));
            }
        }
        wanted(&seen).is_empty()
    }
}

impl Seen {
    fn take(&mut self, answer: &Value, me: &OwnedUserId) {
        for message in list(&answer["to_device"]["events"]) {
            let content = &message["content"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            self.messages.push((
                text(&message["sender"]),
                text(&content["from"]),
                content["n"].as_u64().unwrap(),
            ));
        }
        let rooms = |section: &str| answer["rooms"][section].as_object().into_iter().flatten();
        // Who waits to be let in is not in the room any more.
        for (room, _) in rooms("leave").chain(rooms("invite")).chain(rooms("knock")) {
            self.rooms.remove(&OwnedRoomId::try_from(room.as_str()).unwrap());
        }
        for (room, update) in rooms("join") {
            let room = OwnedRoomId::try_from(room.as_str()).unwrap();
            // The whole state comes with a new stay; what was known is of another one.
            let is_whole = list(&update["state_after"]["events"]).any(|one| one["type"] == "m.room.create");
            if is_whole {
                self.rooms.remove(&room);
            }
            self.rooms.entry(room).or_default().take(update);
        }
        for user in list(&answer["device_lists"]["left"]) {
            self.lists.remove(&user_id(user));
        }
        for user in list(&answer["device_lists"]["changed"]) {
            self.lists.insert(user_id(user), None);
        }
        if self.since.is_none() {
            let members: BTreeSet<OwnedUserId> = self.rooms.values().flat_map(Believed::members).collect();
            self.lists.extend(members.into_iter().map(|user| (user, None)));
            self.lists.insert(me.clone(), None);
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn user_id(value: &Value) -> OwnedUserId {
    OwnedUserId::try_from(value.as_str().unwrap()).unwrap()
}

impl Believed {
    fn take(&mut self, update: &Value) {
        for event in list(&update["state_after"]["events"]) {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            self.state.insert((text("type"), text("state_key")), event.clone());
        }
        let mut gap = update["timeline"]["limited"] == true;
        for event in list(&update["timeline"]["events"]) {
            let id = OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
            self.timeline.push((id, std::mem::take(&mut gap) || self.timeline.is_empty()));
        }
    }

    fn members(&self) -> impl Iterator<Item = OwnedUserId> {
        let members = self.state.iter().filter(|((kind, _), _)| kind == "m.room.member");
        let members = members.filter(|(_, event)| event["content"]["membership"] == "join");
        members.map(|((_, user), _)| OwnedUserId::try_from(user.as_str()).unwrap())
    }
}

/// Logs a device in and publishes keys of it; its token.
pub(super) async fn log_in(node: &Node, user: &OwnedUserId, device: &str) -> String {
    let session = NewSession {
        user_id: user.clone(),
        device_id: Some(device.into()),
        display_name: Some(format!("{device} of {user}")),
        refreshes: false,
        client: None,
    };
    let session = node.app().accounts.start_session(session).await.unwrap();
    let keys = json!({ "device_keys": device_keys(user, device) });
    drop(node.ask(&session.access_token, "POST /_matrix/client/v3/keys/upload", &keys).await);
    session.access_token
}

fn device_keys(user: &OwnedUserId, device: &str) -> Value {
    const PKCS8: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut secret = [b'.'; 32];
    secret[..device.len()].copy_from_slice(device.as_bytes());
    let document = [PKCS8.as_slice(), secret.as_slice()].concat();
    let pair = Ed25519KeyPair::from_der(&document, String::from(device)).unwrap();
    let public = Base64::<ruma::serde::base64::Standard>::new(pair.public_key().to_vec()).encode();
    let keys = json!({
        "user_id": user, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): public, format!("curve25519:{device}"): public },
    });
    let Ok(CanonicalJsonValue::Object(mut keys)) = to_canonical_value(&keys) else { panic!("no object") };
    sign_json(user.as_str(), &pair, &mut keys).unwrap();
    serde_json::to_value(keys).unwrap()
}
