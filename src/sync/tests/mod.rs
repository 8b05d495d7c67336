//! Sync on the memory engine: by table, and by a random model of clients.

mod bounds;
mod cases;
mod kept;
mod model;
mod profiles;
mod sliding;
mod sliding_faults;
mod sliding_model;
mod threads;

use std::{sync::Arc, time::Duration};

use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, server_name};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ProfileFields, SlidingBody, SlidingRequest, SlidingShape, StateDialect, Sync, SyncError, SyncRequest,
    sliding::Portion,
};
use crate::{
    account::{Accounts, Caller, DEVICES, Device, User},
    device::Devices,
    ephemeral::{Ephemeral, Markers, Thread},
    history::History,
    keys::SigningKey,
    log::{Commit, Log},
    peer::{Isolated, Peers, Settings},
    push::Push,
    room::{Message, NewRoom, Profile, Profiles, RoomError, Rooms, Txn},
    store::{
        BoxFuture, Db, Key, StoreError,
        memory::Memory,
        table::{Rows, TableId},
    },
    types::{Fact, Lane, ManualClock, Ports, SeededRng},
};

/// Where an event is stored.
fn place_of(event: &EventId) -> Key {
    Key::new(TableId::Event, &(event.to_owned(),))
}

/// Everyone is called by the local part of their id.
struct Named;

impl Profiles for Named {
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async move {
            Ok(Profile { displayname: Some(String::from(user.localpart())), avatar_url: None })
        })
    }
}

/// A server whose users are named by their local part.
pub(super) struct World {
    db: Db,
    ports: Ports,
    tasks: TaskTracker,
    stopping: CancellationToken,
    has_presence: bool,
    log: Log,
    rooms: Rooms,
    accounts: Accounts,
    ephemeral: Ephemeral,
    push: Push,
    sync: Sync,
}

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:a.org")).unwrap()
}

/// What a client asks for, in short.
#[derive(Clone, Default)]
pub(super) struct Ask {
    since: Option<String>,
    filter: Value,
    dialect: StateDialect,
    full_state: bool,
    timeout: Duration,
}

impl World {
    async fn new(has_presence: bool) -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let ports = Ports { clock, rng: Arc::new(SeededRng::new(1)) };
        Self::start(Db::new(Arc::new(Memory::new())), ports, has_presence).await
    }

    async fn start(db: Db, ports: Ports, has_presence: bool) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let log = Log::open(db.clone(), &tasks).await.unwrap();
        let server = server_name!("a.org").to_owned();
        let history = History::open(log.clone(), ports.clone(), server.clone()).await.unwrap();
        let accounts = Accounts::new(log.clone(), ports.clone(), server.clone(), Default::default());
        let devices = Devices::new(log.clone(), ports.clone(), server.clone());
        let key = Arc::new(SigningKey::from_seed(server, "k", [1; 32]).unwrap());
        let peers = Peers::new(Arc::new(Isolated), log.clone(), ports.clone(), key, Settings::default());
        let rooms = Rooms::new(history.clone(), peers, ports.clone(), Arc::new(Named), tasks.clone());
        let expiry = (&tasks, stopping.clone());
        let ephemeral =
            Ephemeral::new(history.clone(), accounts.clone(), ports.clone(), has_presence, expiry);
        let push = Push::new(history.clone(), accounts.clone());
        let sync = Sync::new(history, accounts.clone(), devices, push.clone(), ephemeral.clone());
        Self { db, ports, tasks, stopping, has_presence, log, rooms, accounts, ephemeral, push, sync }
    }

    /// The same store, with everything in memory lost.
    async fn restart(self) -> Self {
        self.stopping.cancel();
        self.log.close();
        self.tasks.close();
        let Self { db, ports, has_presence, .. } = self;
        Self::start(db, ports, has_presence).await
    }

    /// The same with another row in the place of one, and what that said.
    async fn rewrite(self, key: &Key, row: &[u8]) -> (Self, Vec<u8>) {
        let before = self.db.raw(key).await.unwrap().unwrap();
        let mut commit = Commit::new();
        commit.put_raw(key.clone(), row.to_vec());
        self.log.commit(commit).await.unwrap();
        (self.restart().await, before.to_vec())
    }

    /// Has answers of sliding sync hold one room each, as if every one were large.
    fn narrow(&mut self) {
        let inner = Arc::get_mut(&mut self.sync.0).expect("nobody waits yet");
        inner.sliding.portion = Portion { rooms: 1, bytes: 1 };
    }

    /// Has `name` logged in on a device, as everybody is who makes a request.
    async fn log_in(&self, name: &str, device: &str) {
        const USERS: Rows<(OwnedUserId,), User> = Rows::new(TableId::User);
        let (user, device) = ((user(name),), (user(name), OwnedDeviceId::from(device)));
        let mut commit = Commit::new();
        if self.db.raw(&USERS.key(&user)).await.unwrap().is_none() {
            commit.put(&USERS, &user, &User::default());
        }
        if self.db.raw(&DEVICES.key(&device)).await.unwrap().is_none() {
            commit.put(&DEVICES, &device, &Device::default());
            self.log.commit(commit).await.unwrap();
        }
    }

    fn history(&self) -> &History {
        self.rooms.history()
    }

    async fn try_sync(&self, name: &str, device: &str, ask: &Ask) -> Result<Value, SyncError> {
        self.log_in(name, device).await;
        let caller = Caller { user_id: user(name), device_id: device.into() };
        let filter = match &ask.filter {
            Value::Null => Default::default(),
            filter => serde_json::from_value(filter.clone()).unwrap(),
        };
        let profile_fields = ProfileFields::of_filter(&ask.filter.to_string());
        let since = ask.since.as_ref().map(|token| token.parse().map_err(|_| SyncError::BadToken));
        let request = SyncRequest {
            filter,
            since: since.transpose()?,
            keeps_inbox: false,
            relations: Default::default(),
            profile_fields,
            full_state: ask.full_state,
            dialect: ask.dialect,
            timeout: ask.timeout,
            set_presence: None,
        };
        let response = self.sync.sync(&caller, &request, &self.stopping).await?;
        Ok(serde_json::to_value(&response).unwrap())
    }

    /// A request of sliding sync; `body` may hold everything that either shape has in query or body.
    async fn try_slide(
        &self,
        (name, device): (&str, &str),
        shape: SlidingShape,
        body: Value,
    ) -> Result<Value, SyncError> {
        self.log_in(name, device).await;
        let caller = Caller { user_id: user(name), device_id: device.into() };
        let body: SlidingBody = serde_json::from_value(body).unwrap();
        let request = SlidingRequest::new(shape, &caller.user_id, body)?;
        let response = self.sync.slide(&caller, &request, &self.stopping).await?;
        Ok(serde_json::to_value(&response).unwrap())
    }

    async fn slide(&self, name: &str, body: Value) -> Value {
        self.try_slide((name, "D"), SlidingShape::Unstable, body).await.unwrap()
    }

    async fn sync(&self, name: &str, ask: &Ask) -> Value {
        self.try_sync(name, "D", ask).await.unwrap()
    }

    /// What `name` missed since a token, with the usual filter.
    async fn since(&self, name: &str, token: &Value) -> Value {
        self.sync(name, &Ask { since: text(token), ..Ask::default() }).await
    }

    async fn initial(&self, name: &str) -> Value {
        self.sync(name, &Ask::default()).await
    }

    /// A public room.
    async fn room(&self, creator: &str) -> OwnedRoomId {
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        self.rooms.create(&user(creator), room).await.unwrap()
    }

    async fn join(&self, name: &str, room: &RoomId) -> Result<(), RoomError> {
        self.rooms.join(&user(name), room, None, Map::new()).await
    }

    async fn leave(&self, name: &str, room: &RoomId) -> Result<(), RoomError> {
        self.rooms.leave(&user(name), room, None).await
    }

    async fn say(&self, name: &str, room: &RoomId, body: &str) -> OwnedEventId {
        let content = json!({"msgtype": "m.text", "body": body});
        self.send(name, room, ("m.room.message", content), None).await.unwrap()
    }

    async fn reply(&self, name: &str, room: &RoomId, root: &OwnedEventId) -> OwnedEventId {
        let relation = json!({"rel_type": "m.thread", "event_id": root});
        let content = json!({"msgtype": "m.text", "body": "x", "m.relates_to": relation});
        self.send(name, room, ("m.room.message", content), None).await.unwrap()
    }

    async fn send(
        &self,
        name: &str,
        room: &RoomId,
        (event_type, content): (&str, Value),
        txn: Option<&str>,
    ) -> Result<OwnedEventId, RoomError> {
        let txn = txn.map(|id| Txn { device: "D".into(), id: id.into() });
        let message =
            Message { event_type: event_type.into(), content: to_raw_value(&content).unwrap(), txn };
        self.rooms.send(&user(name), room, message).await
    }

    async fn set(&self, name: &str, room: &RoomId, event_type: &str, content: Value) -> OwnedEventId {
        self.try_set(name, room, event_type, content).await.unwrap()
    }

    async fn try_set(
        &self,
        name: &str,
        room: &RoomId,
        event_type: &str,
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        let content = to_raw_value(&content).unwrap();
        self.rooms.set_state(&user(name), room, (&event_type.into(), ""), content).await
    }

    async fn read(&self, name: &str, room: &RoomId, event: &OwnedEventId, thread: Thread) {
        let markers = Markers { read: Some(event.clone()), thread, ..Markers::default() };
        self.ephemeral.set_markers(room, &user(name), &markers).await.unwrap();
    }

    async fn to_device(&self, name: &str, device: &str, number: u64) {
        let mut commit = Commit::new();
        let content = json!({ "n": number }).to_string();
        let fact = Fact::ToDevice { sender: user("eve"), event_type: "m.test".into(), content };
        commit.fact(Lane::Inbox(user(name), device.into()), fact);
        self.log.commit(commit).await.unwrap();
    }

    async fn set_profile(&self, name: &str, field: &str, value: Value) {
        let value = Some(value).filter(|value| !value.is_null());
        self.accounts.set_profile_field(&user(name), field, value).await.unwrap();
    }

    async fn set_data(&self, name: &str, room: Option<&RoomId>, event_type: &str, content: Value) {
        let change = crate::account::DataChange {
            room_id: room.map(ToOwned::to_owned),
            event_type: event_type.into(),
            content: to_raw_value(&content).unwrap(),
        };
        self.accounts.set_data(&user(name), change).await.unwrap();
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(String::from)
}

/// Something of a joined room in an answer.
fn joined<'a>(answer: &'a Value, room: &RoomId) -> &'a Value {
    &answer["rooms"]["join"][room.as_str()]
}

/// The bodies, or else the types, of the events in a list.
fn words(events: &Value) -> Vec<String> {
    let word = |event: &Value| {
        let body = event["content"]["body"].as_str();
        body.or(event["type"].as_str()).unwrap_or_default().to_owned()
    };
    events.as_array().into_iter().flatten().map(word).collect()
}
