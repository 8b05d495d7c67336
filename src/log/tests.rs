//! The log against a model of its readers, with lost answers and crashes, and its rules one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, SeedableRng, rngs::StdRng};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId};
use tokio_util::task::TaskTracker;

use super::{Audience, Commit, CommitError, Direction, Log, OnceKey, PageLimits};
use crate::{
    limits::SCAN_ROWS_MAX,
    store::{Db, Store, memory::Memory},
    types::{Cursor, Fact, Lane, Membership, Position, Reader},
};

const LIMITS: PageLimits = PageLimits { append: 4, queue: 5, before_opening: false, backlog: usize::MAX };

fn user(n: usize) -> OwnedUserId {
    OwnedUserId::try_from(format!("@u{n}:here")).unwrap()
}

fn device() -> OwnedDeviceId {
    "DEVICE".into()
}

fn room(n: usize) -> OwnedRoomId {
    OwnedRoomId::try_from(format!("!r{n}:here")).unwrap()
}

fn reader(n: usize) -> Reader {
    Reader::Device(user(n), device())
}

fn event(n: u64) -> Fact {
    Fact::Event { event_id: OwnedEventId::try_from(format!("$e{n}:here")).unwrap() }
}

fn message(n: u64) -> Fact {
    Fact::ToDevice { sender: user(9), event_type: "m.test".to_owned(), content: n.to_string() }
}

fn one(lane: Lane, fact: Fact) -> Commit {
    let mut commit = Commit::new();
    commit.fact(lane, fact);
    commit
}

fn membership(n: usize, r: usize, joins: bool) -> Commit {
    let membership = if joins { Membership::Join } else { Membership::Leave };
    let event_id = OwnedEventId::try_from("$member:here").unwrap();
    let mut commit = one(Lane::Room(room(r)), Fact::Event { event_id: event_id.clone() });
    commit.fact(Lane::Account(user(n)), Fact::Membership { room_id: room(r), membership, event_id });
    let (audience, lane) = (Audience::Account(user(n)), Lane::Room(room(r)));
    match joins {
        true => commit.open(audience, lane),
        false => commit.close(audience, lane),
    }
    commit
}

struct Server {
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    log: Log,
}

impl Server {
    async fn start(store: Arc<dyn Store>) -> Self {
        let tasks = TaskTracker::new();
        let log = Log::open(Db::new(store.clone()), &tasks).await.unwrap();
        Self { store, tasks, log }
    }

    async fn new() -> Self {
        Self::start(Arc::new(Memory::new())).await
    }

    /// Ends and starts again with nothing but the store.
    async fn restart(self) -> Self {
        self.log.close();
        self.tasks.close();
        self.tasks.wait().await;
        Self::start(self.store).await
    }
}

#[derive(Default)]
struct Client {
    cursor: Cursor,
    events: BTreeSet<u64>,
    gap_rooms: BTreeSet<usize>,
    messages: Vec<u64>,
    registers: BTreeMap<OwnedUserId, Position>,
}

/// Ground truth, kept beside the log.
#[derive(Default)]
struct Truth {
    /// Event number, its room.
    events: Vec<(u64, usize)>,
    messages: BTreeMap<usize, Vec<u64>>,
    registers: BTreeMap<OwnedUserId, Position>,
}

struct World {
    server: Option<Server>,
    rng: StdRng,
    clients: Vec<Client>,
    truth: Truth,
    next: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let server = Server::new().await;
        for n in 0..3 {
            for r in 0..2 {
                server.log.commit(membership(n, r, true)).await.unwrap();
            }
        }
        let mut clients: Vec<Client> = (0..3).map(|_| Client::default()).collect();
        for client in &mut clients {
            client.cursor = Cursor::at(server.log.head());
        }
        let rng = StdRng::seed_from_u64(seed);
        Self { server: Some(server), rng, clients, truth: Truth::default(), next: 0 }
    }

    fn log(&self) -> Log {
        self.server.as_ref().unwrap().log.clone()
    }

    async fn step(&mut self, draining: bool) -> Result<(), String> {
        self.next += 1;
        let (n, log) = (self.next, self.log());
        match if draining { 70 } else { self.rng.random_range(0..100) } {
            0..=29 => {
                let r = self.rng.random_range(0..2);
                log.commit(one(Lane::Room(room(r)), event(n))).await.unwrap();
                self.truth.events.push((n, r));
            }
            30..=44 => {
                let d = self.rng.random_range(0..3);
                log.commit(one(Lane::Inbox(user(d), device()), message(n))).await.unwrap();
                self.truth.messages.entry(d).or_default().push(n);
            }
            45..=52 => {
                let who = user(self.rng.random_range(0..4));
                let at = log.commit(one(Lane::People, Fact::Devices { user_id: who.clone() })).await.unwrap();
                self.truth.registers.insert(who, at);
            }
            53..=58 => {
                let typing = Fact::Typing { user_ids: vec![user(0)] };
                log.commit(one(Lane::Room(room(0)), typing)).await.unwrap();
            }
            59..=61 => {
                let server = self.server.take().unwrap();
                self.server = Some(server.restart().await);
            }
            _ => {
                let d = self.rng.random_range(0..3);
                let answer_lost = !draining && self.rng.random_range(0..5) == 0;
                self.sync(d, answer_lost).await?;
            }
        }
        Ok(())
    }

    async fn sync(&mut self, d: usize, answer_lost: bool) -> Result<(), String> {
        let (log, client) = (self.log(), &mut self.clients[d]);
        if client.cursor.log > log.head() {
            return Err(format!("token {} is ahead of the head {}", client.cursor, log.head()));
        }
        log.ack(&reader(d), client.cursor).await.unwrap();
        let page = log.page(&reader(d), client.cursor, &LIMITS).await.unwrap();
        if answer_lost {
            return Ok(());
        }
        for slice in page.slices {
            if let (Lane::Room(id), true) = (&slice.lane, slice.gap) {
                client.gap_rooms.extend((0..2).filter(|r| room(*r) == *id));
            }
            for (at, fact) in slice.facts {
                match fact {
                    Fact::Event { event_id } => {
                        let number = event_id.as_str()[2..].split(':').next().unwrap().parse().unwrap();
                        if !client.events.insert(number) {
                            return Err(format!("client {d} was given event {number} twice"));
                        }
                    }
                    Fact::ToDevice { content, .. } => client.messages.push(content.parse().unwrap()),
                    Fact::Devices { user_id } => {
                        client.registers.insert(user_id, at);
                    }
                    _ => {}
                }
            }
        }
        client.cursor = page.to;
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for (d, client) in self.clients.iter().enumerate() {
            for (number, r) in &self.truth.events {
                if !client.events.contains(number) && !client.gap_rooms.contains(r) {
                    return Err(format!("client {d} lost event {number} with no gap marked"));
                }
            }
            let messages = self.truth.messages.get(&d).cloned().unwrap_or_default();
            if client.messages != messages {
                return Err(format!("client {d} has {:?} of {messages:?}", client.messages));
            }
            if client.registers != self.truth.registers {
                return Err(format!("client {d} has stale registers"));
            }
        }
        Ok(())
    }
}

async fn run(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed).await;
    for step in 0..400 {
        world.step(step >= 300).await?;
    }
    world.check()
}

#[tokio::test]
async fn no_reader_loses_or_repeats_anything() {
    let base: u64 = rand::rng().random();
    for offset in 0..60 {
        let seed = base.wrapping_add(offset);
        if let Err(violation) = run(seed).await {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[tokio::test]
async fn an_interval_holds_the_join_and_the_leave() {
    let log = Server::new().await.log;
    let since = Cursor::at(log.commit(one(Lane::Room(room(0)), event(1))).await.unwrap());
    let joined = log.commit(membership(0, 0, true)).await.unwrap();
    log.commit(one(Lane::Room(room(0)), event(2))).await.unwrap();
    let left = log.commit(membership(0, 0, false)).await.unwrap();
    log.commit(one(Lane::Room(room(0)), event(3))).await.unwrap();
    let page = log.page(&reader(0), since, &LIMITS).await.unwrap();
    let slice = page.slices.iter().find(|slice| slice.lane == Lane::Room(room(0))).unwrap();
    assert_eq!((slice.opened, slice.closed), (Some(joined), Some(left)));
    let positions: Vec<u64> = slice.facts.iter().map(|(at, _)| at.0).collect();
    assert_eq!(positions, [joined.0, joined.0 + 1, left.0]);
    let after = log.page(&reader(0), page.to, &LIMITS).await.unwrap();
    assert!(after.slices.is_empty(), "a closed lane is silent: {after:?}");
}

#[tokio::test]
async fn a_repeated_request_gets_its_first_answer() {
    let server = Server::new().await;
    let send = |n| {
        let key = OnceKey::txn(&user(0), &device(), "send", "txn1");
        let mut commit = Commit::once(key, format!("$e{n}").into_bytes());
        commit.fact(Lane::Room(room(0)), event(n));
        commit
    };
    server.log.commit(send(1)).await.unwrap();
    let server = server.restart().await;
    match server.log.commit(send(2)).await {
        Err(CommitError::AlreadyDone(reply)) => assert_eq!(reply, b"$e1"),
        other => panic!("{other:?}"),
    }
    let span = (Position::ZERO, Position::MAX);
    let facts = server.log.timeline(&room(0), span, Direction::Forward, 10).await.unwrap();
    assert_eq!(facts.len(), 1);
}

#[tokio::test]
async fn a_waiter_wakes_for_its_own_lanes_only() {
    let log = Server::new().await.log;
    log.commit(membership(0, 0, true)).await.unwrap();
    log.commit(membership(1, 1, true)).await.unwrap();
    let seen = Cursor::at(log.head());
    let reader = reader(0);
    let wait = log.wait(&reader, seen);
    tokio::pin!(wait);
    assert!(futures_util::poll!(wait.as_mut()).is_pending());
    log.commit(one(Lane::Room(room(1)), event(1))).await.unwrap();
    assert!(futures_util::poll!(wait.as_mut()).is_pending(), "another room is nothing to wake for");
    log.commit(one(Lane::Room(room(0)), event(2))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_committed_before_the_wait_ends_it_at_once() {
    let log = Server::new().await.log;
    log.commit(membership(0, 0, true)).await.unwrap();
    let seen = Cursor::at(log.head());
    log.commit(one(Lane::Inbox(user(0), device()), message(1))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), log.wait(&reader(0), seen)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_removed_device_leaves_nothing_behind() {
    let log = Server::new().await.log;
    let inbox = Lane::Inbox(user(0), device());
    log.commit(one(inbox.clone(), message(1))).await.unwrap();
    log.commit(one(inbox.clone(), Fact::KeyCounts)).await.unwrap();
    let mut removal = Commit::new();
    removal.drop_inbox(&user(0), &device());
    log.commit(removal).await.unwrap();
    let page = log.page(&reader(0), Cursor::default(), &LIMITS).await.unwrap();
    assert!(page.slices.is_empty(), "{page:?}");
}

#[tokio::test]
async fn positions_of_volatile_facts_are_not_used_again() {
    let server = Server::new().await;
    let typing = || Fact::Typing { user_ids: Vec::new() };
    let before = server.log.commit(one(Lane::Room(room(0)), typing())).await.unwrap();
    let server = server.restart().await;
    let after = server.log.commit(one(Lane::Room(room(0)), event(1))).await.unwrap();
    assert!(after > before, "{after} after {before}");
}

#[tokio::test]
async fn a_page_has_all_registers_of_a_lane_however_many() {
    let log = Server::new().await.log;
    log.commit(membership(0, 0, true)).await.unwrap();
    let count = SCAN_ROWS_MAX + 5;
    let all: Vec<usize> = (0..count).collect();
    for chunk in all.chunks(1_000) {
        let mut commit = Commit::new();
        for n in chunk {
            commit
                .fact(Lane::Account(user(0)), Fact::AccountData { room_id: None, event_type: n.to_string() });
        }
        log.commit(commit).await.unwrap();
    }
    let page = log.page(&reader(0), Cursor::default(), &LIMITS).await.unwrap();
    let slice = page.slices.iter().find(|slice| slice.lane == Lane::Account(user(0))).unwrap();
    let data = slice.facts.iter().filter(|(_, fact)| matches!(fact, Fact::AccountData { .. }));
    assert_eq!(data.count(), count);
    let registers = log.registers(&Lane::Account(user(0)), Position::ZERO, log.head()).await.unwrap();
    assert!(registers.len() >= count, "{}", registers.len());
}
