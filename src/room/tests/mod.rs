//! Rooms on the memory engine.

mod busy;
mod delayed;
mod model;
mod reading;
mod removal;
mod upgrade;
mod verbs;

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, server_name};
use serde_json::{Value, json, value::to_raw_value};
use tokio_util::task::TaskTracker;

use super::{Message, NewRoom, Profile, Profiles, RoomError, Rooms, Txn};
use crate::{
    history::History,
    keys::SigningKey,
    log::Log,
    peer::{Isolated, Peers, Settings},
    store::{BoxFuture, Db, StoreError, memory::Memory},
    types::{Clock, ManualClock, Membership, Ports, SeededRng},
};

/// Everyone is called by the local part of their id.
struct Named;

impl Profiles for Named {
    fn profile<'a>(&'a self, user: &'a ruma::UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async move {
            Ok(Profile { displayname: Some(String::from(user.localpart())), avatar_url: None })
        })
    }
}

/// A server whose users are named by their local part.
struct World {
    rooms: Rooms,
    db: Db,
    clock: Arc<ManualClock>,
    ports: Ports,
}

fn user(name: &str) -> OwnedUserId {
    let id = if name.contains(':') { format!("@{name}") } else { format!("@{name}:a.org") };
    OwnedUserId::try_from(id).unwrap()
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        Self::by(clock.clone(), clock).await
    }

    /// One that sees `clock` as `seen`.
    async fn by(clock: Arc<ManualClock>, seen: Arc<dyn Clock>) -> Self {
        let db = Db::new(Arc::new(Memory::new()));
        let ports = Ports { clock: seen, rng: Arc::new(SeededRng::new(1)) };
        let tasks = TaskTracker::new();
        let log = Log::open(db.clone(), &tasks).await.unwrap();
        let server = server_name!("a.org").to_owned();
        let history = History::open(log, ports.clone(), server.clone()).await.unwrap();
        let key = Arc::new(SigningKey::from_seed(server, "k", [1; 32]).unwrap());
        let peers =
            Peers::new(Arc::new(Isolated), history.log().clone(), ports.clone(), key, Settings::default());
        let rooms = Rooms::new(history, peers, ports.clone(), Arc::new(Named), tasks);
        Self { rooms, db, clock, ports }
    }

    fn history(&self) -> &History {
        self.rooms.history()
    }

    /// The same store, seen by a process that has just started.
    async fn cold(&self) -> History {
        let log = Log::open(self.db.clone(), &TaskTracker::new()).await.unwrap();
        History::open(log, self.ports.clone(), server_name!("a.org").to_owned()).await.unwrap()
    }

    /// A public room of alice's.
    async fn room(&self, version: &str) -> OwnedRoomId {
        let room =
            NewRoom { version: Some(version.try_into().unwrap()), is_public: true, ..NewRoom::default() };
        self.rooms.create(&user("alice"), room).await.unwrap()
    }

    async fn join(&self, name: &str, room: &RoomId) -> Result<(), RoomError> {
        self.rooms.join(&user(name), room, None, serde_json::Map::new()).await
    }

    async fn say(&self, name: &str, room: &RoomId, body: &str) -> Result<OwnedEventId, RoomError> {
        self.send(name, room, "m.room.message", json!({"msgtype": "m.text", "body": body})).await
    }

    async fn send(
        &self,
        name: &str,
        room: &RoomId,
        event_type: &str,
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        let content = to_raw_value(&content).unwrap();
        let message = Message { event_type: event_type.into(), content, txn: None };
        self.rooms.send(&user(name), room, message).await
    }

    async fn say_once(&self, name: &str, room: &RoomId, txn: &str) -> Result<OwnedEventId, RoomError> {
        let message = Message {
            event_type: "m.room.message".into(),
            content: to_raw_value(&json!({"body": txn})).unwrap(),
            txn: Some(Txn { device: "D".into(), id: txn.into() }),
        };
        self.rooms.send(&user(name), room, message).await
    }

    async fn set(
        &self,
        name: &str,
        room: &RoomId,
        event_type: &str,
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        self.set_at(name, room, (event_type, ""), content).await
    }

    async fn set_at(
        &self,
        name: &str,
        room: &RoomId,
        (event_type, key): (&str, &str),
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        let content = to_raw_value(&content).unwrap();
        self.rooms.set_state(&user(name), room, (&event_type.into(), key), content).await
    }

    /// The content of a state event as it is now.
    async fn now(&self, room: &RoomId, event_type: &str, key: &str) -> Value {
        let state = self.history().current_state(room).await.unwrap().unwrap();
        let event = self.history().state_event(state, event_type.into(), key).await.unwrap();
        event.map_or(Value::Null, |event| event.pdu.content_as().unwrap())
    }

    async fn membership(&self, room: &RoomId, name: &str) -> Option<Membership> {
        self.history().membership(room, &user(name)).await.unwrap()
    }

    /// An event as `name` sees it on device `D`; null if they may not.
    async fn seen(&self, name: &str, event: &ruma::EventId) -> Value {
        let event = self.history().event(event).await.unwrap().unwrap();
        let mut viewer = self.history().viewer(&user(name), Some("D".into())).await.unwrap();
        if !viewer.sees(&event).await.unwrap() {
            return Value::Null;
        }
        let text = viewer.render_one(&event, crate::history::Shape::Full).await.unwrap();
        serde_json::from_str(text.get()).unwrap()
    }
}

/// Looks at a request so many times, each time after others have done what they could, goes away, and lets the others
/// finish.
async fn leave_after(looks: usize, request: impl Future) {
    let mut request = Box::pin(request);
    for _ in 0..looks {
        tokio::select! {
            biased;
            _ = &mut request => break,
            () = tokio::task::yield_now() => {}
        }
    }
    drop(request);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A word for what came of something.
fn word<T>(result: Result<T, RoomError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(RoomError::NotFound(_)) => "not found",
        Err(RoomError::Forbidden(_)) => "forbidden",
        Err(RoomError::Invalid(_)) => "invalid",
        Err(RoomError::BadJson(_)) => "bad json",
        Err(RoomError::BadState(_)) => "bad state",
        Err(RoomError::InvalidState(_)) => "invalid state",
        Err(RoomError::NotLeft(_)) => "not left",
        Err(RoomError::InviteBlocked) => "blocked",
        Err(RoomError::AliasInUse) => "in use",
        Err(RoomError::BadAlias(_)) => "bad alias",
        Err(RoomError::DuplicateAnnotation) => "duplicate",
        Err(RoomError::UnsupportedVersion(_) | RoomError::UnsupportedByInvited(_)) => "unsupported",
        Err(RoomError::UnableToGrantJoin) => "unable to grant",
        Err(RoomError::TooLarge(_)) => "too large",
        Err(RoomError::UnableToAuthoriseJoin) => "unable to authorise",
        Err(RoomError::IncompatibleVersion(_)) => "incompatible",
        Err(RoomError::Refused { .. }) => "refused",
        Err(RoomError::Unreachable(_)) => "unreachable",
        Err(RoomError::Identity(_)) => "identity server",
        Err(RoomError::Conflict) => "conflict",
        Err(RoomError::Closed) => "closed",
        Err(RoomError::Store(_)) => "store",
        Err(RoomError::Partial) => "partial",
        Err(RoomError::GuestsForbidden) => "guests forbidden",
    }
}
