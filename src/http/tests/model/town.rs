//! A server with its users, and the list of what they did.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::OwnedRoomId;
use serde_json::Value;

use super::ledger::{Event, Room};
use crate::{
    account::{NewSession, NewUser, Registration},
    config::Config,
    http::{
        client::testing::Server,
        tests::{services_at, services_over},
    },
    log::Direction,
    types::{Fact, ManualClock, Position},
};

const NAMES: [(&str, &[&str]); 5] =
    [("alice", &["A"]), ("bob", &["B", "C"]), ("carol", &["D", "E"]), ("dora", &["F"]), ("erin", &["G"])];

pub(super) struct Person {
    pub(super) id: String,
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
    clock: Arc<ManualClock>,
    pub(super) rng: StdRng,
    txns: u64,
    ticks: u64,
    pub(super) people: Vec<Person>,
    pub(super) rooms: Vec<Room>,
    /// Up to where the log was read, by room.
    read: Vec<Position>,
    pub(super) ignored: BTreeMap<String, BTreeSet<String>>,
    /// Who has forgotten which room.
    pub(super) forgotten: BTreeSet<(String, String)>,
    pub(super) data: BTreeMap<DataOf, Value>,
    /// Messages to devices, in order.
    pub(super) inbox: BTreeMap<(String, String), Vec<u64>>,
    /// How often the devices of somebody have changed.
    pub(super) versions: BTreeMap<String, u64>,
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
            let mut person = Person { id: user_id.to_string(), devices: Vec::new() };
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
        Self {
            server,
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
        self.ask_on(&self.people[who].devices[0].1, request, body).await
    }

    pub(super) async fn ask_on(&self, token: &str, request: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.server.ask(token, request, body).await;
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
        self.read.push(Position::ZERO);
        self.note(self.rooms.len() - 1).await;
    }

    /// Writes down what is new in a room; how many events that are.
    pub(super) async fn note(&mut self, room: usize) -> usize {
        let app = self.server.app().clone();
        let id = OwnedRoomId::try_from(self.rooms[room].id.as_str()).unwrap();
        let range = (self.read[room], Position::MAX);
        let facts = app.log.timeline(&id, range, Direction::Forward, 1_000).await.unwrap();
        let before = self.rooms[room].events.len();
        for (at, fact) in facts {
            self.read[room] = at;
            let Fact::Event { event_id } = fact else { continue };
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
                redacted: None,
                tick: self.ticks,
            });
            if let Some(target) = target {
                self.rooms[room].events[target].redacted.get_or_insert(place);
            }
        }
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
        room.events.len() - before
    }
}
