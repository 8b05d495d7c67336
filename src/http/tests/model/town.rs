//! A server with its users, and the list of what they did.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::OwnedRoomId;
use serde_json::Value;

use super::{
    asked::Asked,
    faces::Profiles,
    ledger::{Event, Room},
    tap::Tap,
};
use crate::{
    account::{NewDevice, NewSession, NewUser, Registration},
    config::Config,
    http::{
        App, Wire,
        client::testing::Server,
        endpoints,
        tests::{services_among, services_at, services_over},
    },
    log::Direction,
    types::{Fact, ManualClock, Position},
};

const NAMES: [(&str, &[&str]); 5] =
    [("alice", &["A"]), ("bob", &["B", "C"]), ("carol", &["D", "E"]), ("dora", &["F"]), ("erin", &["G"])];

/// The names of two servers.
pub(super) const HOMES: [&str; 2] = ["a.org", "b.org"];
/// Who lives where, if there are two.
const NAMES_OF_TWO: [(&str, usize); 5] = [("alice", 0), ("bob", 0), ("carol", 1), ("dora", 1), ("erin", 0)];
/// How often the servers may go on before they must have come to rest.
const TURNS_MAX: usize = 200_000;

pub(super) struct Person {
    pub(super) id: String,
    /// Which server they are of.
    pub(super) home: usize,
    /// Devices with their access tokens.
    pub(super) devices: Vec<(String, String)>,
}

fn config() -> Config {
    let mut config = Config::default();
    config.rate_limits.enabled = false;
    config
}

/// Account data: whose, of which room (none for global data), of which type.
pub(super) type DataOf = (String, String, String);

pub(super) struct Town {
    pub(super) server: Server,
    /// Another server, if there are two.
    pub(super) abroad: Option<Server>,
    clock: Arc<ManualClock>,
    pub(super) rng: StdRng,
    txns: u64,
    ticks: u64,
    pub(super) people: Vec<Person>,
    pub(super) rooms: Vec<Room>,
    /// Up to where the logs were read, by room.
    read: Vec<[Position; 2]>,
    pub(super) ignored: BTreeMap<String, BTreeSet<String>>,
    /// Who has forgotten which room.
    pub(super) forgotten: BTreeSet<(String, String)>,
    pub(super) data: BTreeMap<DataOf, Value>,
    /// Messages to devices, in order.
    pub(super) inbox: BTreeMap<(String, String), Vec<u64>>,
    /// How often the devices of somebody have changed.
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) profiles: Profiles,
    pub(super) asked: Asked,
    pub(super) tap: Tap,
}

impl Town {
    pub(super) async fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let server = Server::over(services_at(config(), clock.clone()).await, Registration::Open);
        let mut people = Vec::new();
        for (name, devices) in NAMES {
            let accounts = &server.app().accounts;
            let new = NewUser { username: Some(name.into()), ..NewUser::default() };
            let user_id = accounts.create_user(new).await.unwrap();
            let mut person = Person { id: user_id.to_string(), home: 0, devices: Vec::new() };
            for device in devices {
                let session = NewSession {
                    user_id: user_id.clone(),
                    device_id: Some((*device).into()),
                    display_name: None,
                    refreshes: false,
                    client: None,
                };
                let token = accounts.start_session(session).await.unwrap().access_token;
                person.devices.push((String::from(*device), token));
            }
            people.push(person);
        }
        Self::with((server, None), clock, (seed, people))
    }

    /// A town of two servers.
    pub(super) async fn of_two(seed: u64) -> (Self, Wire) {
        let (wire, clock) = (Wire::default(), Arc::new(ManualClock::at(1_700_000_000_000)));
        let tap = Tap::default();
        let mut servers = Vec::new();
        for name in HOMES {
            let config = Config { server_name: name.try_into().unwrap(), ..config() };
            let services = services_among(config, tap.on(&wire), clock.clone()).await;
            let server = Server::over(services, Registration::Open);
            wire.connect(name.try_into().unwrap(), endpoints().into_router(server.app().clone()));
            servers.push(server);
        }
        let mut people = Vec::new();
        for (name, home) in NAMES_OF_TWO {
            let accounts = &servers[home].app().accounts;
            let new = NewUser { username: Some(name.into()), ..NewUser::default() };
            let session = accounts.register(new, NewDevice::default()).await.unwrap();
            let devices = vec![(session.device_id.to_string(), session.access_token)];
            people.push(Person { id: format!("@{name}:{}", HOMES[home]), home, devices });
        }
        let (abroad, server) = (servers.pop(), servers.pop().unwrap());
        (Self { tap, ..Self::with((server, abroad), clock, (seed, people)) }, wire)
    }

    fn with(
        (server, abroad): (Server, Option<Server>),
        clock: Arc<ManualClock>,
        (seed, people): (u64, Vec<Person>),
    ) -> Self {
        Self {
            server,
            abroad,
            clock,
            rng: StdRng::seed_from_u64(seed),
            txns: 0,
            ticks: 0,
            people,
            rooms: Vec::new(),
            read: Vec::new(),
            ignored: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            data: BTreeMap::new(),
            inbox: BTreeMap::new(),
            versions: BTreeMap::new(),
            profiles: Profiles::new(),
            asked: Asked::default(),
            tap: Tap::default(),
        }
    }

    /// The server ends and begins again with what is stored.
    pub(super) async fn restart(&mut self) {
        let app = self.server.app();
        app.stopping.cancel();
        app.log.close();
        app.tasks.close();
        let db = app.log.db().clone();
        let services = services_over(config(), self.clock.clone(), db).await;
        self.server = Server::over(services, Registration::Open);
        // Who types is kept in memory only.
        self.rooms.iter_mut().for_each(|room| room.typing.clear());
    }

    /// Somebody who is still there.
    pub(super) fn somebody(&mut self) -> usize {
        loop {
            let who = self.below(self.people.len());
            if !self.is_gone(who) {
                return who;
            }
        }
    }

    pub(super) fn is_gone(&self, who: usize) -> bool {
        self.rooms.iter().any(|room| room.erased.contains_key(&self.people[who].id))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    pub(super) fn chance(&mut self, one: u32, of: u32) -> bool {
        self.rng.random_ratio(one, of)
    }

    pub(super) fn txn(&mut self) -> u64 {
        self.txns += 1;
        self.txns
    }

    /// Asks in the name of somebody.
    pub(super) async fn ask(&self, who: usize, request: &str, body: Value) -> (u16, Value) {
        let person = &self.people[who];
        let server = self.abroad.as_ref().filter(|_| person.home == 1).unwrap_or(&self.server);
        self.ask_at(server, (&person.devices[0].1, request), body).await
    }

    pub(super) async fn ask_on(&self, token: &str, request: &str, body: Value) -> (u16, Value) {
        self.ask_at(&self.server, (token, request), body).await
    }

    async fn ask_at(&self, server: &Server, (token, request): (&str, &str), body: Value) -> (u16, Value) {
        self.asked.note(request);
        let (status, answer) = server.ask(token, request, body).await;
        assert!(status != 429 && status < 500, "{request}: {status} {answer}");
        match std::env::var("TELL").as_deref() {
            Ok("all") => println!("{request} -> {status} {answer}"),
            Ok(_) => println!("{request} -> {status}"),
            Err(_) => {}
        }
        (status, answer)
    }

    /// Asks, and wants to be answered.
    pub(super) async fn get(&self, who: usize, request: &str) -> Value {
        let (status, answer) = self.ask(who, request, Value::Null).await;
        assert_eq!(status, 200, "{} {request}: {answer}", self.people[who].id);
        answer
    }

    pub(super) fn tick(&mut self) {
        self.clock.advance(Duration::from_millis(10));
    }

    pub(super) fn has_forgotten(&self, user: &str, room: &str) -> bool {
        self.forgotten.contains(&(user.to_owned(), room.to_owned()))
    }

    pub(super) fn ignored_by(&self, user: &str) -> BTreeSet<String> {
        self.ignored.get(user).cloned().unwrap_or_default()
    }

    /// Those who share a room with `user`.
    pub(super) fn sharers(&self, user: &str) -> BTreeSet<String> {
        let rooms = self.rooms.iter().map(Room::joined).filter(|joined| joined.contains(user));
        rooms.flatten().filter(|other| *other != user).map(String::from).collect()
    }

    pub(super) async fn add_room(&mut self, id: &str) {
        self.rooms.push(Room { id: id.to_owned(), ..Room::default() });
        self.read.push([Position::ZERO; 2]);
        self.note(self.rooms.len() - 1).await;
    }

    /// Writes down what is new in a room; how many events that are.
    pub(super) async fn note(&mut self, room: usize) -> usize {
        self.settle().await;
        let before = self.rooms[room].events.len();
        let apps: Vec<App> = [Some(&self.server), self.abroad.as_ref()]
            .into_iter()
            .flatten()
            .map(|s| s.app().clone())
            .collect();
        for (server, app) in apps.into_iter().enumerate() {
            self.note_from(&app, (server, room)).await;
        }
        self.note_consequences(room, before);
        self.rooms[room].events.len() - before
    }

    /// Waits until two servers have told each other everything: the latest event in the timeline of a room that
    /// both think to be in is the same.
    pub(super) async fn settle(&self) {
        let Some(abroad) = &self.abroad else { return };
        let apps = [self.server.app(), abroad.app()];
        for room in &self.rooms {
            let id = OwnedRoomId::try_from(room.id.as_str()).unwrap();
            let mut last = Vec::new();
            for _ in 0..TURNS_MAX {
                last.clear();
                let mut is_shared = false;
                for app in apps {
                    is_shared |= app.history.servers_by_members(&id).await.unwrap().len() == 2;
                    let range = (Position::ZERO, Position::MAX);
                    let facts = app.log.timeline(&id, range, Direction::Backward, 30).await.unwrap();
                    last.push(facts.into_iter().find_map(|(_, fact)| match fact {
                        Fact::Event { event_id } => Some(event_id),
                        _ => None,
                    }));
                }
                if !is_shared || last[0] == last[1] {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let is_late = last.first() != last.last();
            if is_late {
                for app in apps {
                    let servers = app.history.servers_by_members(&id).await.unwrap();
                    assert!(servers.len() < 2, "{}: {last:?} at {}", room.id, app.server_name);
                }
            }
        }
    }

    async fn note_from(&mut self, app: &App, (server, room): (usize, usize)) {
        let id = OwnedRoomId::try_from(self.rooms[room].id.as_str()).unwrap();
        let range = (self.read[room][server], Position::MAX);
        let facts = app.log.timeline(&id, range, Direction::Forward, 1_000).await.unwrap();
        for (at, fact) in facts {
            self.read[room][server] = at;
            let Fact::Event { event_id } = fact else { continue };
            if self.rooms[room].place(event_id.as_str()).is_some() {
                continue;
            }
            let event = app.history.event(&event_id).await.unwrap().unwrap();
            let pdu: Value = serde_json::from_str(event.pdu.json().get()).unwrap();
            self.ticks += 1;
            let text = |name: &str| pdu[name].as_str().map(String::from);
            let place = self.rooms[room].events.len();
            let target = pdu["content"]["redacts"].as_str().or(pdu["redacts"].as_str());
            let target = target.and_then(|target| self.rooms[room].place(target));
            let mut content = pdu["content"].clone();
            if let Some(target) = pdu["redacts"].as_str() {
                // Clients are told in both places, whatever the room version.
                content["redacts"] = target.into();
            }
            self.rooms[room].events.push(Event {
                id: event_id.to_string(),
                sender: text("sender").unwrap(),
                kind: text("type").unwrap(),
                key: text("state_key"),
                content,
                ts: pdu["origin_server_ts"].as_u64().unwrap(),
                sticks: pdu["msc4354_sticky"].is_object(),
                redacted: None,
                tick: self.ticks,
            });
            // Somebody of another server may have asked for it without the power to.
            if let Some(target) = target.filter(|target| self.rooms[room].may_redact(place, *target)) {
                self.rooms[room].events[target].redacted.get_or_insert(place);
            }
        }
    }

    fn note_consequences(&mut self, room: usize, before: usize) {
        let room = &mut self.rooms[room];
        let joined: BTreeSet<String> = room.joined().into_iter().map(String::from).collect();
        room.typing.retain(|user| joined.contains(user));
        // What ends forgetting the specification does not say: a new membership does.
        for event in &room.events[before..] {
            if let (Some(user), Some("join" | "invite" | "knock")) =
                (&event.key, event.content["membership"].as_str())
            {
                self.forgotten.remove(&(user.clone(), room.id.clone()));
            }
        }
    }

    /// Whether somebody came too late for what an erased user said; if that was of another server, whether
    /// their server came too late.
    pub(super) fn is_kept_from(&self, who: usize, room: &Room, at: usize) -> bool {
        let person = &self.people[who];
        match room.events[at].sender.split_once(':') {
            Some((_, server)) if !person.id.ends_with(server) => {
                room.is_kept_from_server(HOMES[person.home], at)
            }
            _ => room.is_kept_from(&person.id, at),
        }
    }
}
