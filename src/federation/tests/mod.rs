//! Several servers in one process, with a wire between them that a test may cut and tap.

mod bounds;
mod costs;
mod devices;
mod guests;
mod holes;
mod hostile;
mod hydra;
mod later;
mod leaks;
mod model;
mod mutations;
mod partial;
mod policy;
mod removal;
mod rooms;
mod setbacks;
mod stays;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName,
    api::{
        IncomingRequest, IncomingRequestExt, OutgoingResponse,
        federation::{
            authorization::get_event_authorization,
            backfill::get_backfill,
            event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
            transactions::send_transaction_message,
        },
    },
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Between, Federation, FederationError, Neighbours, Transaction};
use crate::{
    account::Accounts,
    dag::{Pdu, StateKey, build},
    device::Devices,
    ephemeral::Ephemeral,
    history::{History, Status, StoredEvent},
    identity::Identity,
    keys::{SigningKey, canonical_text, parse_object},
    log::{Direction, Log, PageLimits},
    peer::{Bounds, Net, NetError, Peers, Settings},
    room::{Graft, Message, NewRoom, Profile, Profiles, RoomError, Rooms},
    store::{BoxFuture, Db, Store, StoreError, memory::Memory},
    types::{Cursor, Fact, Lane, ManualClock, Membership, Ports, Position, Reader, SeededRng},
};

struct Nameless;

impl Profiles for Nameless {
    fn profile<'a>(&'a self, _: &'a ruma::UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async { Ok(Profile::default()) })
    }

    fn is_guest<'a>(&'a self, user: &'a ruma::UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(user.localpart().starts_with("guest")) })
    }
}

/// One server.
struct Node {
    name: OwnedServerName,
    federation: Federation,
    key: Arc<SigningKey>,
    cursors: Mutex<BTreeMap<OwnedServerName, Cursor>>,
}

/// What comes instead of an honest answer: of whom, on which part of a path, what.
type Lie = (OwnedServerName, &'static str, Option<Value>);

/// All servers, and what is between them.
struct Wire {
    clock: Arc<ManualClock>,
    nodes: Mutex<BTreeMap<OwnedServerName, Arc<Node>>>,
    /// Who cannot reach whom.
    cut: Mutex<BTreeSet<(OwnedServerName, OwnedServerName)>>,
    lies: Mutex<Vec<Lie>>,
    /// Answers to requests for paths with this in them wait for it.
    held: Mutex<Option<(&'static str, Arc<Semaphore>)>>,
    calls: Mutex<Vec<String>>,
}

struct Port {
    wire: Weak<Wire>,
    from: OwnedServerName,
}

impl Net for Port {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let unreachable = || NetError::Unreachable(String::from("the wire is cut"));
            let wire = self.wire.upgrade().ok_or_else(unreachable)?;
            let path = request.uri().path().to_owned();
            wire.calls.lock().push(format!("{} {server} {path}", self.from));
            let held = wire.held.lock().clone().filter(|(what, _)| path.contains(what));
            // An answer takes a while.
            tokio::task::yield_now().await;
            if let Some((_, held)) = held {
                drop(held.acquire().await);
            }
            if wire.cut.lock().contains(&(self.from.clone(), server.to_owned())) {
                return Err(unreachable());
            }
            let lie =
                wire.lies.lock().iter().find(|(who, what, _)| who == server && path.contains(what)).cloned();
            match lie {
                Some((_, _, Some(lie))) => return Ok(http::Response::new(Bytes::from(lie.to_string()))),
                Some((_, _, None)) => return Err(unreachable()),
                None => {}
            }
            let node = wire.nodes.lock().get(server).cloned().ok_or_else(unreachable)?;
            Ok(node.answer(&self.from, request).await)
        })
    }
}

fn server(name: &str) -> OwnedServerName {
    OwnedServerName::try_from(format!("{name}.org")).unwrap()
}

/// `bob@b` is `@bob:b.org`.
fn user(name: &str) -> OwnedUserId {
    let (local, server) = name.split_once('@').unwrap();
    OwnedUserId::try_from(format!("@{local}:{server}.org")).unwrap()
}

impl Wire {
    async fn new(names: &[&str]) -> Arc<Self> {
        let wire = Arc::new(Self {
            clock: Arc::new(ManualClock::at(1_000_000_000)),
            nodes: Mutex::default(),
            cut: Mutex::default(),
            lies: Mutex::default(),
            held: Mutex::default(),
            calls: Mutex::default(),
        });
        for (number, name) in (1..).zip(names) {
            let node = Node::new(&wire, server(name), number).await;
            wire.nodes.lock().insert(server(name), Arc::new(node));
        }
        wire
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.nodes.lock()[&server(name)].clone()
    }

    fn cut(&self, from: &str, to: &str) {
        self.cut.lock().insert((server(from), server(to)));
    }

    fn mend(&self) {
        self.cut.lock().clear();
    }

    /// Has the next transaction of `from` to `to` delivered; whether there was something to deliver. An
    /// answer that is lost makes the same come again.
    async fn deliver(&self, from: &str, to: &str, lose_answer: bool) -> bool {
        let (from, to) = (self.node(from), self.node(to));
        if self.cut.lock().contains(&(from.name.clone(), to.name.clone())) {
            return false;
        }
        let cursor = from.cursors.lock().get(&to.name).copied().unwrap_or_default();
        let limits = PageLimits { append: 5, queue: 10, before_opening: false, backlog: usize::MAX };
        let reader = Reader::Server(to.name.clone());
        let page = from.federation.log.page(&reader, cursor, &limits).await.unwrap();
        let mut ids = Vec::new();
        for slice in &page.slices {
            for (_, fact) in &slice.facts {
                if let (Lane::Egress(_), Fact::Event { event_id }) = (&slice.lane, fact) {
                    ids.push(event_id.clone());
                }
            }
        }
        let mut pdus = Vec::new();
        for id in &ids {
            let event = from.federation.history.event(id).await.unwrap().unwrap();
            pdus.push(event.pdu.json().to_owned());
        }
        if !pdus.is_empty() {
            let transaction = Transaction { id: page.to.to_string(), pdus, edus: Vec::new() };
            to.federation.receive(&from.name, transaction).await.unwrap();
        }
        if !lose_answer {
            from.cursors.lock().insert(to.name.clone(), page.to);
        }
        !ids.is_empty()
    }

    /// Delivers until there is nothing left to deliver.
    async fn drive(&self) {
        let names: Vec<OwnedServerName> = self.nodes.lock().keys().cloned().collect();
        let short = |name: &OwnedServerName| name.as_str().trim_end_matches(".org").to_owned();
        for _ in 0..1_000 {
            let mut moved = false;
            for from in &names {
                for to in names.iter().filter(|to| *to != from) {
                    moved |= self.deliver(&short(from), &short(to), false).await;
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the servers never come to rest");
    }
}

impl Node {
    async fn new(wire: &Arc<Wire>, name: OwnedServerName, number: u8) -> Self {
        Self::with_store(wire, name, (number, Arc::new(Memory::new()))).await
    }

    async fn with_store(
        wire: &Arc<Wire>,
        name: OwnedServerName,
        (number, store): (u8, Arc<dyn Store>),
    ) -> Self {
        let ports = Ports { clock: wire.clock.clone(), rng: Arc::new(SeededRng::new(number.into())) };
        let tasks = TaskTracker::new();
        let log = Log::open(Db::new(store), &tasks).await.unwrap();
        let history = History::open(log.clone(), ports.clone(), name.clone()).await.unwrap();
        let key = Arc::new(SigningKey::from_seed(name.clone(), "k", [number; 32]).unwrap());
        let net = Arc::new(Port { wire: Arc::downgrade(wire), from: name.clone() });
        let identity = Identity::new(net.clone(), log.clone(), key.clone(), Vec::new());
        let peers = Peers::new(net, log.clone(), ports.clone(), key.clone(), Settings::default());
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), Default::default());
        let stopping = CancellationToken::new();
        let ephemeral =
            Ephemeral::new(history.clone(), accounts.clone(), ports.clone(), true, (&tasks, stopping));
        let rooms = Rooms::new(history.clone(), peers.clone(), ports.clone(), Arc::new(Nameless), tasks);
        let federation = Federation::new(Neighbours {
            devices: Devices::new(log.clone(), ports.clone(), name.clone()),
            log,
            ports,
            peers,
            history,
            accounts,
            ephemeral,
            identity,
            rooms,
        });
        Self { name, federation, key, cursors: Mutex::default() }
    }

    fn history(&self) -> &History {
        &self.federation.history
    }

    fn rooms(&self) -> &Rooms {
        &self.federation.rooms
    }

    async fn answer(&self, from: &ServerName, request: http::Request<Bytes>) -> http::Response<Bytes> {
        let path = request.uri().path().to_owned();
        let path: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let federation = &self.federation;
        match path[..] {
            ["_matrix", "key", "v2", "server"] => self.published_keys(),
            ["_matrix", "federation", "v1", "send", id] => {
                let request: send_transaction_message::v1::Request = read(request, &[id]);
                let edus = request.edus.into_iter().map(ruma::serde::Raw::into_json).collect();
                let transaction = Transaction { id: String::from(id), pdus: request.pdus, edus };
                let answer = federation.receive(from, transaction).await;
                write(answer.map(send_transaction_message::v1::Response::new))
            }
            ["_matrix", "federation", "v1", "event", id] => {
                let request: get_event::v1::Request = read(request, &[id]);
                let event = federation.event(from, &request.event_id).await;
                write(event.map(|event| get_event::v1::Response::new(self.name.clone(), now(), event)))
            }
            ["_matrix", "federation", "v1", "state_ids", room] => {
                let request: get_room_state_ids::v1::Request = read(request, &[room]);
                let ids = federation.state_ids(from, &request.room_id, &request.event_id).await;
                write(ids.map(|(state, chain)| get_room_state_ids::v1::Response::new(chain, state)))
            }
            ["_matrix", "federation", "v1", "state", room] => {
                let request: get_room_state::v1::Request = read(request, &[room]);
                let state = federation.state(from, &request.room_id, &request.event_id).await;
                write(state.map(|(state, chain)| get_room_state::v1::Response::new(chain, state)))
            }
            ["_matrix", "federation", "v1", "event_auth", room, id] => {
                let request: get_event_authorization::v1::Request = read(request, &[room, id]);
                let chain = federation.event_auth(from, &request.room_id, &request.event_id).await;
                write(chain.map(get_event_authorization::v1::Response::new))
            }
            ["_matrix", "federation", "v1", "backfill", room] => {
                let request: get_backfill::v1::Request = read(request, &[room]);
                let limit = u64::from(request.limit).try_into().unwrap();
                let events = federation.backfill(from, &request.room_id, request.v, limit).await;
                write(events.map(|events| get_backfill::v1::Response::new(self.name.clone(), now(), events)))
            }
            ["_matrix", "federation", "v1", "get_missing_events", room] => {
                let request: get_missing_events::v1::Request = read(request, &[room]);
                let between = Between {
                    earliest: request.earliest_events,
                    latest: request.latest_events,
                    limit: u64::from(request.limit).try_into().unwrap(),
                    min_depth: request.min_depth.into(),
                };
                let events = federation.missing_events(from, &request.room_id, between).await;
                write(events.map(get_missing_events::v1::Response::new))
            }
            ["_matrix", "policy", "v1", "sign"] => self.sign_policy(request).await,
            _ => refusal(404, "M_UNRECOGNIZED"),
        }
    }

    fn published_keys(&self) -> http::Response<Bytes> {
        let now = self.federation.ports.clock.now_ms();
        let document = json!({
            "server_name": self.name,
            "verify_keys": { self.key.key_id().as_str(): { "key": self.key.public_key() } },
            "old_verify_keys": {},
            "valid_until_ts": now + 86_400_000,
        });
        let mut document = parse_object(&document.to_string()).unwrap();
        self.key.sign_json(&mut document).unwrap();
        http::Response::new(Bytes::from(canonical_text(&document)))
    }

    /// A public room of `creator`.
    async fn create(&self, creator: &str, version: &str) -> OwnedRoomId {
        let room =
            NewRoom { version: Some(version.try_into().unwrap()), is_public: true, ..NewRoom::default() };
        self.rooms().create(&user(creator), room).await.unwrap()
    }

    /// An event on top of the room as this server sees it, signed by the server of its sender.
    async fn build(&self, by: &Self, room: &RoomId, event: (&OwnedUserId, &str, Option<&str>, Value)) -> Pdu {
        self.build_with(by, room, event, (&[], &[])).await
    }

    /// As [`Self::build`], after `heads`, if there are any, and with `named` where they would stand in the state.
    async fn build_with(
        &self,
        by: &Self,
        room: &RoomId,
        event: (&OwnedUserId, &str, Option<&str>, Value),
        (heads, named): (&[&Pdu], &[&Pdu]),
    ) -> Pdu {
        let row = self.history().room(room).await.unwrap().unwrap();
        let (sender, event_type, state_key, content) = event;
        let draft = build::Draft {
            room_id: Some(room.to_owned()),
            sender: sender.clone(),
            event_type: event_type.into(),
            state_key: state_key.map(String::from),
            content: to_raw_value(&content).unwrap(),
            redacts: None,
            sticky_ms: None,
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(
                self.federation.ports.clock.now_ms().try_into().unwrap(),
            ),
        };
        let keys = build::draft_state_keys(&draft, row.rules()).unwrap();
        let keys: Vec<StateKey> = keys.into_iter().map(StateKey::from).collect();
        let mut found = Vec::new();
        for (key, value) in keys.iter().zip(self.history().state_entries(row.state, &keys).await.unwrap()) {
            if let Some(value) = value {
                let event = self.history().event(&value.event_id).await.unwrap().unwrap();
                found.push((key.clone(), event.pdu.clone()));
            }
        }
        let state = |event_type: &ruma::events::StateEventType, key: &str| {
            let stands = |pdu: &&&Pdu| {
                pdu.state_key() == Some(key) && pdu.event_type().to_string() == event_type.to_string()
            };
            if let Some(named) = named.iter().find(stands) {
                return Some((**named).clone());
            }
            let place =
                found.iter().find(|(place, _)| place.event_type == *event_type && place.state_key == key);
            place.map(|(_, pdu)| pdu.clone())
        };
        let own: Vec<_> = heads.iter().map(|head| build::Head::of(head, row.rules())).collect();
        let heads = if own.is_empty() { row.build_heads() } else { own };
        build::build(draft, &heads, state, row.rules(), &by.key).unwrap()
    }

    /// What stands in one place of the current state.
    async fn state_event(&self, room: &RoomId, (event_type, key): (&str, &str)) -> Pdu {
        let state = self.history().current_state(room).await.unwrap().unwrap();
        let event = self.history().state_event(state, event_type.into(), key).await.unwrap();
        event.unwrap().pdu.clone()
    }

    /// Lets a user of this server join a room through `resident`.
    async fn join_through(&self, resident: &Self, room: &RoomId, who: &str) -> Result<(), RoomError> {
        self.join_with(resident, room, (who, false)).await
    }

    /// As [`Self::join_through`]; with `omit` the resident server leaves out the members.
    async fn join_with(
        &self,
        resident: &Self,
        room: &RoomId,
        (who, omit): (&str, bool),
    ) -> Result<(), RoomError> {
        let user = user(who);
        if self
            .history()
            .current_members(room)
            .await
            .unwrap()
            .with(Membership::Join)
            .any(|member| member.server_name() == self.name)
        {
            return self.rooms().join(&user, room, None, serde_json::Map::new()).await;
        }
        let content = json!({"membership": "join"});
        let event = (&user, "m.room.member", Some(user.as_str()), content);
        let join = resident.build(self, room, event).await;
        let id = resident.rooms().receive_for(&self.name, room, join.json().to_owned()).await;
        let id = id.map_err(|failure| RoomError::Forbidden(failure.to_string()))?;
        let stored = resident.history().event(&id).await.unwrap().unwrap();
        let states = stored.states.unwrap();
        let (mut state, chain) = resident.federation.state_with_chain(states.before).await.unwrap();
        let joined = state.iter().filter(|event| event.pdu.membership() == Some(Membership::Join));
        let servers = joined.map(|event| event.pdu.sender().server_name().to_owned()).collect();
        state.retain(|event| !omit || event.pdu.membership().is_none());
        let texts = |events: Vec<Arc<StoredEvent>>| -> Vec<Box<RawValue>> {
            events.iter().map(|event| event.pdu.json().to_owned()).collect()
        };
        let graft = Graft {
            origin: resident.name.clone(),
            version: stored.version.clone(),
            event: join,
            state: texts(state),
            auth_chain: texts(chain),
            omitted: omit.then_some(servers),
        };
        let grafting: BoxFuture<'_, _> = Box::pin(self.rooms().graft(graft));
        grafting.await
    }

    async fn say(&self, who: &str, room: &RoomId, body: &str) -> Result<OwnedEventId, RoomError> {
        let content = to_raw_value(&json!({"msgtype": "m.text", "body": body})).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        self.rooms().send(&user(who), room, message).await
    }

    async fn set(
        &self,
        who: &str,
        room: &RoomId,
        place: (&str, &str),
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        let content = to_raw_value(&content).unwrap();
        self.rooms().set_state(&user(who), room, (&place.0.into(), place.1), content).await
    }

    /// Sends events in the name of `from`; a word for what became of each.
    async fn receive(&self, from: &Self, pdus: &[&Pdu]) -> Vec<String> {
        let pdus: Vec<_> = pdus.iter().map(|pdu| pdu.json().to_owned()).collect();
        let room = match pdus.first().map(|pdu| serde_json::from_str::<Value>(pdu.get()).unwrap()) {
            Some(pdu) => OwnedRoomId::try_from(pdu["room_id"].as_str().unwrap()).unwrap(),
            None => return Vec::new(),
        };
        let results = self.rooms().receive(&from.name, &room, pdus).await.unwrap();
        results
            .into_iter()
            .map(|(_, result)| result.map_or_else(|error| error.to_string(), |()| String::from("ok")))
            .collect()
    }

    /// The current state, by place.
    async fn state(&self, room: &RoomId) -> BTreeMap<String, OwnedEventId> {
        let state = self.history().current_state(room).await.unwrap().unwrap();
        let entries = self.history().state_of(state, None).await.unwrap();
        let entry = |entry: crate::dag::tree::Entry| {
            (format!("{} {}", entry.key.event_type, entry.key.state_key), entry.value.event_id)
        };
        entries.into_iter().map(entry).collect()
    }

    /// The events of the timeline, in the order of the log.
    async fn timeline(&self, room: &RoomId) -> Vec<OwnedEventId> {
        let range = (Position::ZERO, Position::MAX);
        let facts = self.federation.log.timeline(room, range, Direction::Forward, 10_000).await.unwrap();
        let id = |(_, fact)| match fact {
            Fact::Event { event_id } => Some(event_id),
            _ => None,
        };
        facts.into_iter().filter_map(id).collect()
    }

    async fn status(&self, id: &EventId) -> Option<Status> {
        self.history().event(id).await.unwrap().map(|event| event.status)
    }
}

fn now() -> ruma::MilliSecondsSinceUnixEpoch {
    ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(1))
}

fn read<R: IncomingRequest>(request: http::Request<Bytes>, path: &[&str]) -> R {
    let (parts, body) = request.into_parts();
    R::try_from_http_request(http::Request::from_parts(parts, &*body), path).unwrap()
}

fn write<R: OutgoingResponse>(response: Result<R, FederationError>) -> http::Response<Bytes> {
    use ruma::api::OutgoingResponseExt;
    match response {
        Ok(response) => response.try_into_http_response::<BytesMut>().unwrap().map(BytesMut::freeze),
        Err(FederationError::Forbidden(_)) => refusal(403, "M_FORBIDDEN"),
        Err(FederationError::NotFound(_)) => refusal(404, "M_NOT_FOUND"),
        Err(error) => panic!("{error}"),
    }
}

fn refusal(status: u16, code: &str) -> http::Response<Bytes> {
    let body = json!({"errcode": code, "error": ""}).to_string();
    http::Response::builder().status(status).body(Bytes::from(body)).unwrap()
}

fn decoded(part: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [a, b, tail @ ..]) => {
                let hex = [*a, *b];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
