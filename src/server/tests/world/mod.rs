//! Whole servers that share rooms over a network that cuts, delays, doubles and loses, and that crash and come
//! back with what they had written.
//!
//! Everything is real but the network, the disk and the time: the clock of the runtime stands still while
//! anything can be done. Random users talk and quarrel; then the network heals, and in the end everybody must
//! have the same. A seed decides everything that chance decides. By hand: `SEEDS=10000` runs as many (`FROM=2000`
//! not from the first), `SEED=7` runs one and tells what happens (`RUST_LOG`) and what everybody has in the end (`TELL=1`),
//! with `cargo test --lib server::tests::world`. With `STRANGERS=1` servers do not know one another's keys at first.

mod check;
mod client;
mod deeds;
mod disk;
mod net;
mod node;
mod owed;
mod rest;
mod tell;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{OwnedRoomId, OwnedUserId, api::federation::device::get_devices};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{client::Client, net::Sea, node::Node};
use crate::{account::NewUser, peer::Bounds, types::PausedClock};

/// As many seeds as there is time for in every run of the tests.
const SEEDS: u64 = 200;
/// Seeds that have once found something, which are run every time.
const FOUND: [u64; 24] = [
    232, 416, 565, 694, 1527, 1614, 2073, 2148, 2179, 2185, 2225, 2624, 2776, 4255, 5244, 5500, 5948, 6339,
    6403, 6503, 6510, 6618, 7348, 50_215,
];
/// Tests among which the seeds are divided, so that all cores have something to do.
const PARTS: u64 = 4;
/// Things that happen before the network heals.
const STEPS: usize = 50;

/// A room that everybody knows of.
#[derive(Clone)]
pub(super) struct Room {
    id: OwnedRoomId,
    version: String,
    creator: String,
}

/// To-device messages: who sent them, from which device, the how-manieth.
type Owed = Vec<(String, String, u64)>;

struct World {
    /// Whether there are kicks and bans, and changes of power and of who may come in.
    is_rough: bool,
    nodes: Vec<Arc<Node>>,
    sea: Arc<Sea>,
    clock: Arc<PausedClock>,
    clients: Vec<Arc<Client>>,
    /// To-device messages that must arrive, by user and device.
    ledger: Mutex<BTreeMap<(OwnedUserId, String), Owed>>,
    chance: Mutex<StdRng>,
    txns: AtomicU64,
    /// What users are at.
    deeds: TaskTracker,
    followers: TaskTracker,
    /// Clients poll no more.
    stopping: CancellationToken,
    /// Something that goes on beside the test has panicked.
    is_broken: AtomicBool,
}

/// What decides what happens. Nothing that happens has an influence on it.
pub(super) struct Dice {
    rng: StdRng,
    count: u64,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    fn count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

impl World {
    async fn new(seed: u64, dice: &mut Dice) -> Self {
        let sea = Sea::new(seed);
        sea.calm();
        let clock = Arc::new(PausedClock::at(1_700_000_000_000));
        let count = [3, 3, 3, 4, 5, 7][dice.below(6)];
        let nodes: Vec<Arc<Node>> = (0..count).map(|number| Arc::new(Node::new(seed, number))).collect();
        let mut clients = Vec::new();
        for node in &nodes {
            node.boot(&sea, clock.clone()).await;
            for (name, devices) in [("ann", 1), ("ben", dice.below(3))].into_iter().filter(|(_, n)| *n > 0) {
                let new = NewUser { username: Some(name.into()), ..NewUser::default() };
                let user = node.app().accounts.create_user(new).await.unwrap();
                for number in 0..devices {
                    let limit = [2, 3, 10, 50][dice.below(4)];
                    let client = Client::new(node, &user, &format!("D{number}"), limit).await;
                    clients.push(Arc::new(client));
                }
            }
        }
        if std::env::var("STRANGERS").is_err() {
            acquaint(&nodes).await;
        }
        Self {
            is_rough: dice.below(3) > 0,
            nodes,
            sea,
            clock,
            clients,
            ledger: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            txns: AtomicU64::new(0),
            deeds: TaskTracker::new(),
            followers: TaskTracker::new(),
            stopping: CancellationToken::new(),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Has something go on beside the test, which fails if that panics.
    fn spawn(self: &Arc<Self>, on: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        let world = self.clone();
        on.spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                world.is_broken.store(true, Ordering::SeqCst);
            }
        });
    }

    fn chance(&self, one: u32, of: u32) -> bool {
        self.chance.lock().random_ratio(one, of)
    }

    fn txn(&self) -> u64 {
        self.txns.fetch_add(1, Ordering::SeqCst)
    }

    /// Founds a room and has some users join it.
    async fn found(&self, dice: &mut Dice, rooms: &[Room]) -> Room {
        let creator = &self.clients[dice.below(self.clients.len())];
        let versions = ["1", "2", "3", "6", "7", "8", "9", "10", "11", "12"];
        let version = String::from(versions[dice.below(versions.len())]);
        let levels = json!({ "invite": 0, "state_default": dice.below(2) * 50 });
        let rule = dice.join_rule(&version, rooms);
        let body = json!({
            "preset": "public_chat", "room_version": version, "power_level_content_override": levels,
            "initial_state": [{ "type": "m.room.join_rules", "content": rule }],
        });
        let (status, answer) = creator.ask("POST /createRoom", &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let id = OwnedRoomId::try_from(answer["room_id"].as_str().unwrap()).unwrap();
        for client in &self.clients {
            if dice.below(3) > 0 {
                let path = format!("POST /join/{}?via={}", node::quoted(&id), creator.node.name);
                let mut joined = client.ask(&path, &json!({})).await.unwrap();
                if joined.0 != 200 {
                    // Where the rule does not let them in, they are invited.
                    let invite = format!("POST /rooms/{}/invite", node::quoted(&id));
                    let (status, answer) =
                        creator.ask(&invite, &json!({ "user_id": client.user })).await.unwrap();
                    assert_eq!(status, 200, "{answer}");
                    // A server that is in the room hears of it as of everything else.
                    sleep(Duration::from_secs(5)).await;
                    joined = client.ask(&path, &json!({})).await.unwrap();
                }
                assert_eq!(joined.0, 200, "{}", joined.1);
            }
        }
        Room { id, version, creator: creator.user.to_string() }
    }

    /// Everything up to the healing.
    async fn live(self: &Arc<Self>, dice: &mut Dice, rooms: &[Room]) {
        for client in &self.clients {
            self.spawn(&self.followers, self.clone().follow(client.clone()));
        }
        self.sea.storm();
        for _ in 0..STEPS {
            let pause = match dice.below(20) {
                0 => 60_000,
                1..=3 => 5_000,
                _ => 400,
            };
            sleep(Duration::from_millis(dice.rng.random_range(0..pause))).await;
            match dice.below(16) {
                0 | 1 => {
                    let (a, b) = (self.any(dice), self.any(dice));
                    self.sea.cut(&a.name, &b.name);
                    if dice.below(3) > 0 {
                        self.sea.cut(&b.name, &a.name);
                    }
                }
                2 => self.sea.mend(),
                3 => self.any(dice).crash(),
                4 | 5 => self.revive(dice.below(self.nodes.len())).await,
                _ => {}
            }
            for _ in 0..1 + dice.below(2) {
                let (room, me) =
                    (&rooms[dice.below(rooms.len())], &self.clients[dice.below(self.clients.len())]);
                let deed = dice.deed(self, (room, rooms), me);
                self.spawn(&self.deeds, self.clone().act(me.clone(), room.id.clone(), deed));
            }
        }
    }

    fn any(&self, dice: &mut Dice) -> Arc<Node> {
        self.nodes[dice.below(self.nodes.len())].clone()
    }

    async fn revive(&self, number: usize) {
        let node = &self.nodes[number];
        if node.alive().is_none() {
            node.boot(&self.sea, self.clock.clone()).await;
        }
    }

    /// A client that is on, most of the time.
    async fn follow(self: Arc<Self>, client: Arc<Client>) {
        while !self.stopping.is_cancelled() {
            let patience = if self.chance(1, 2) { 0 } else { 20_000 };
            let lost = self.chance(1, 6);
            if client.poll(patience, lost).await.is_some() {
                client.refresh().await;
            }
            let pause = if self.chance(1, 10) { 20_000 } else { 4_000 };
            let pause = self.chance.lock().random_range(10..pause);
            sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// Has all servers learn the keys of all others: whoever joins a room without the keys of one that is in it
/// would do without the members from there.
async fn acquaint(nodes: &[Arc<Node>]) {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            let user = OwnedUserId::try_from(format!("@ann:{}", other.name)).unwrap();
            let request = get_devices::v1::Request::new(user);
            node.app().peers.call(&other.name, request, Bounds::default()).await.unwrap();
        }
    }
}

async fn run(seed: u64) {
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed), count: 0 };
    let world = Arc::new(World::new(seed, &mut dice).await);
    let mut rooms = Vec::new();
    for _ in 0..1 + dice.below(2) {
        let room = world.found(&mut dice, &rooms).await;
        rooms.push(room);
    }
    let versions: Vec<_> = rooms.iter().map(|room| &room.version).collect();
    println!("{} servers, rough: {}, rooms of versions {versions:?}", world.nodes.len(), world.is_rough);
    world.live(&mut dice, &rooms).await;
    world.heal(&rooms).await;
    if std::env::var("TELL").is_ok() {
        for room in &rooms {
            world.tell(&room.id).await;
        }
    }
    world.check(&rooms).await;
}

/// Names the seed of a run that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {0}: SEED={0} cargo test --lib server::tests::world", self.0);
        }
    }
}

fn run_one(seed: u64) {
    let _named = Named(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(run(seed));
}

/// Runs all of them, and fails if one does.
fn run_all(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.collect();
    let fails = |seed: &u64| std::panic::catch_unwind(|| run_one(*seed)).is_err();
    let failed: Vec<u64> = seeds.iter().copied().filter(fails).collect();
    println!("{} of {} seeds have failed: {failed:?}", failed.len(), seeds.len());
    assert!(failed.is_empty(), "of {} seeds, these have failed: {failed:?}", seeds.len());
}

fn part(number: u64) {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (setting("SEED"), setting("SEEDS")) {
        (Some(seed), _) if number == 0 => {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            let logging = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().without_time();
            drop(logging.try_init());
            run_one(seed);
        }
        (Some(_), _) => {}
        (None, seeds) => {
            let (first, count) = (setting("FROM").unwrap_or(0), seeds.unwrap_or(SEEDS));
            let found = FOUND.into_iter().filter(|_| first == 0);
            run_all((first..first + count).chain(found).filter(|seed| seed % PARTS == number));
        }
    }
}

#[test]
fn servers_end_with_the_same_part_0() {
    part(0);
}

#[test]
fn servers_end_with_the_same_part_1() {
    part(1);
}

#[test]
fn servers_end_with_the_same_part_2() {
    part(2);
}

#[test]
fn servers_end_with_the_same_part_3() {
    part(3);
}
