//! Couriers against servers that are up, down, or answer late.

mod lists;
mod pools;
mod refusals;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, server_name};
use serde_json::{Value, json, value::to_raw_value};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Couriers, Settings, Transaction, Transport, TransportError, stored_standings};
use crate::{
    account::{Accounts, NewSession, NewUser},
    device::Devices,
    history::History,
    keys::SigningKey,
    limits::{COURIER_ANSWER_SECONDS_MAX, TYPING_TOLD_EVERY_MS},
    log::{Audience, Commit, Log},
    peer::{self, Isolated, Peers},
    room::{Message, NewRoom, Rooms},
    store::{BoxFuture, Db, memory::Memory},
    types::{Fact, Lane, PausedClock, Ports, ReceiptKind, SeededRng},
};

/// Whether a transaction with this body is refused.
type Refused = fn(&Value) -> bool;

/// Other servers, all in one.
#[derive(Default)]
struct Others {
    /// What is refused by whoever is not down.
    refused: Mutex<Option<Refused>>,
    down: Mutex<BTreeSet<OwnedServerName>>,
    /// Who takes a connection and never answers.
    hanging: Mutex<BTreeSet<OwnedServerName>>,
    /// Every attempt: to whom, which id, the body, whether it arrived.
    attempts: Mutex<Vec<Attempt>>,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Attempt {
    server: OwnedServerName,
    id: String,
    body: Value,
    arrived: bool,
}

impl Transport for Others {
    fn put<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            if self.hanging.lock().contains(server) {
                tokio::time::sleep(COURIER_ANSWER_SECONDS_MAX).await;
            }
            let is_up = !self.down.lock().contains(server);
            let body = json!({ "pdus": transaction.pdus, "edus": transaction.edus });
            let is_refusal = is_up && self.refused.lock().is_some_and(|refused| refused(&body));
            let arrived = is_up && !is_refusal;
            let (server, id) = (server.to_owned(), transaction.id.to_string());
            self.attempts.lock().push(Attempt { server, id, body, arrived });
            self.changed.notify_one();
            let message = if is_refusal { "too large" } else { "no route" }.to_owned();
            match arrived {
                true => Ok(()),
                false => Err(TransportError { message, retry_after: None, is_refusal }),
            }
        })
    }
}

impl Others {
    /// Waits until `wanted` holds of the attempts.
    async fn until(&self, what: &str, wanted: impl Fn(&[Attempt]) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(7_200), async {
            loop {
                let attempts = self.attempts.lock().clone();
                if wanted(&attempts) {
                    return;
                }
                self.changed.notified().await;
            }
        });
        let waited = waited.await;
        assert!(waited.is_ok(), "never {what}: {:#?}", self.attempts.lock());
    }

    fn arrived(&self, server: &str) -> Vec<Value> {
        let attempts = self.attempts.lock();
        let of_server = attempts.iter().filter(|attempt| attempt.server == server && attempt.arrived);
        of_server.map(|attempt| attempt.body.clone()).collect()
    }

    fn edus(&self, server: &str, edu_type: &str) -> Vec<Value> {
        let arrived = self.arrived(server).into_iter();
        arrived
            .flat_map(|body| body["edus"].as_array().unwrap().clone())
            .filter(|edu| edu["edu_type"] == edu_type)
            .map(|edu| edu["content"].clone())
            .collect()
    }
}

struct World {
    log: Log,
    history: History,
    accounts: Accounts,
    devices: Devices,
    rooms: Rooms,
    ports: Ports,
    tasks: TaskTracker,
    others: Arc<Others>,
    room: OwnedRoomId,
}

fn server(name: &str) -> OwnedServerName {
    name.try_into().unwrap()
}

fn alice() -> OwnedUserId {
    "@alice:a.org".try_into().unwrap()
}

impl World {
    /// A room of alice's, read by the server b.org.
    async fn new() -> Self {
        let clock = Arc::new(PausedClock::at(1_000_000));
        let ports = Ports { clock, rng: Arc::new(SeededRng::new(1)) };
        let tasks = TaskTracker::new();
        let log = Log::open(Db::new(Arc::new(Memory::new())), &tasks).await.unwrap();
        let name = server_name!("a.org").to_owned();
        let history = History::open(log.clone(), ports.clone(), name.clone()).await.unwrap();
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), Default::default());
        let devices = Devices::new(log.clone(), ports.clone(), name.clone());
        let key = Arc::new(SigningKey::from_seed(name, "k", [1; 32]).unwrap());
        let peers =
            Peers::new(Arc::new(Isolated), log.clone(), ports.clone(), key, peer::Settings::default());
        let rooms =
            Rooms::new(history.clone(), peers, ports.clone(), Arc::new(accounts.clone()), tasks.clone());
        let new = NewUser { username: Some("alice".into()), ..NewUser::default() };
        accounts.create_user(new).await.unwrap();
        let room = rooms.create(&alice(), NewRoom::default()).await.unwrap();
        let world =
            Self { log, history, accounts, devices, rooms, ports, tasks, others: Arc::default(), room };
        world.lets_in("b.org").await;
        world
    }

    async fn lets_in(&self, name: &str) {
        let mut commit = Commit::new();
        commit.fact(self.egress(), Fact::StateMoved);
        commit.open(Audience::Server(server(name)), self.egress());
        self.log.commit(commit).await.unwrap();
    }

    /// Couriers, until the token is cancelled.
    fn start(&self) -> (Couriers, CancellationToken) {
        let stopping = CancellationToken::new();
        let settings =
            Settings { first_pause: Duration::from_secs(10), longest_pause: Duration::from_secs(600) };
        let couriers = Couriers::start(
            (self.history.clone(), self.devices.clone()),
            self.others.clone(),
            settings,
            self.ports.clone(),
            (&self.tasks, stopping.clone()),
        );
        (couriers, stopping)
    }

    fn egress(&self) -> Lane {
        Lane::Egress(self.room.clone())
    }

    async fn fact(&self, lane: Lane, fact: Fact) {
        let mut commit = Commit::new();
        commit.fact(lane, fact);
        self.log.commit(commit).await.unwrap();
    }

    /// Alice says something, and other servers are to have it.
    async fn say(&self, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        let event_id = self.rooms.send(&alice(), &self.room, message).await.unwrap();
        self.fact(self.egress(), Fact::Event { event_id: event_id.clone() }).await;
        event_id
    }

    async fn log_in(&self, device: &str) {
        let session = NewSession {
            user_id: alice(),
            device_id: Some(OwnedDeviceId::from(device)),
            display_name: Some(format!("{device}'s name")),
            refreshes: false,
            client: None,
        };
        self.accounts.start_session(session).await.unwrap();
    }
}

fn bodies(transactions: &[Value]) -> Vec<String> {
    let pdus = transactions.iter().flat_map(|body| body["pdus"].as_array().unwrap());
    pdus.map(|pdu| pdu["content"]["body"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_page_becomes_pdus_and_edus() {
    let world = World::new().await;
    let (_couriers, _stopping) = world.start();
    let others = &world.others;
    let event_id = world.say("hello").await;
    others.until("said", |_| bodies(&others.arrived("b.org")) == ["hello"]).await;

    let receipt = |thread: Option<&str>| Fact::Receipt {
        kind: ReceiptKind::Read,
        user_id: alice(),
        room_id: world.room.clone(),
        thread_id: thread.map(str::to_owned),
        event_id: event_id.clone(),
        ts: 5,
    };
    let mut commit = Commit::new();
    commit.fact(world.egress(), receipt(None));
    commit.fact(world.egress(), receipt(Some("main")));
    commit.fact(
        Lane::Outbox(server("b.org")),
        Fact::Edu { edu_type: "m.direct_to_device".into(), content: json!({"message_id": "1"}).to_string() },
    );
    world.log.commit(commit).await.unwrap();
    others.until("read", |_| others.edus("b.org", "m.receipt").len() == 2).await;
    let read = |data: Value| {
        let by_user = json!({ alice().as_str(): { "event_ids": [event_id], "data": data } });
        json!({ world.room.as_str(): { "m.read": by_user } })
    };
    assert_eq!(
        others.edus("b.org", "m.receipt"),
        [read(json!({"ts": 5})), read(json!({"ts": 5, "thread_id": "main"}))]
    );
    assert_eq!(others.edus("b.org", "m.direct_to_device"), [json!({"message_id": "1"})]);

    for (user_ids, count) in [(vec![alice()], 1), (vec![], 2)] {
        world.fact(world.egress(), Fact::Typing { user_ids }).await;
        others.until("typing", |_| others.edus("b.org", "m.typing").len() == count).await;
    }
    let typing = |typing| json!({ "room_id": world.room, "user_id": alice(), "typing": typing });
    assert_eq!(others.edus("b.org", "m.typing"), [typing(true), typing(false)]);

    let content = json!({ "presence": "online", "currently_active": true }).to_string();
    world.fact(Lane::People, Fact::Presence { user_id: alice(), content }).await;
    others.until("present", |_| !others.edus("b.org", "m.presence").is_empty()).await;
    let presence = &others.edus("b.org", "m.presence")[0]["push"][0];
    assert_eq!((&presence["user_id"], &presence["presence"]), (&json!("@alice:a.org"), &json!("online")));
    world.log.close();
}

/// Servers forget who types after a while, and what did not arrive has not been told.
#[tokio::test(start_paused = true)]
async fn servers_are_told_again_of_those_who_type_on() {
    let world = World::new().await;
    let others = &world.others;
    others.down.lock().insert(server("b.org"));
    let (_couriers, _stopping) = world.start();
    let types = async || world.fact(world.egress(), Fact::Typing { user_ids: vec![alice()] }).await;
    types().await;
    others.until("tried", |attempts| attempts.len() > 3).await;
    others.down.lock().clear();
    others.until("told", |_| others.edus("b.org", "m.typing").len() == 1).await;
    types().await;
    world.say("at once").await;
    others.until("had what was said", |_| bodies(&others.arrived("b.org")).len() == 1).await;
    assert_eq!(others.edus("b.org", "m.typing").len(), 1);
    tokio::time::advance(Duration::from_millis(TYPING_TOLD_EVERY_MS)).await;
    types().await;
    others.until("told again", |_| others.edus("b.org", "m.typing").len() == 2).await;
    assert!(others.edus("b.org", "m.typing").iter().all(|edu| edu["typing"] == true));
    world.log.close();
}

/// Those who fell silent together are tried as soon as one of them is back; who fell at another time keeps its pause.
#[tokio::test(start_paused = true)]
async fn one_server_that_is_back_has_the_others_tried() {
    let world = World::new().await;
    let others = &world.others;
    let names = ["b.org", "c.org", "d.org"];
    for name in &names[1..] {
        world.lets_in(name).await;
    }
    others.down.lock().insert(server("d.org"));
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    others
        .until("had by two", |_| names[..2].iter().all(|name| bodies(&others.arrived(name)).len() == 1))
        .await;
    let tries = |name: &str| others.attempts.lock().iter().filter(|one| one.server == name).count();
    others.until("silent", |_| tries("d.org") > 3).await;
    tokio::time::advance(Duration::from_secs(3_000)).await;
    others.down.lock().extend(names.map(server));
    world.say("two").await;
    others.until("silent for long", |_| names[..2].iter().all(|name| tries(name) > 9)).await;
    // Its pause has just begun.
    let before = tries("d.org") + 1;
    others.until("tried once more", |_| tries("d.org") == before).await;
    others.down.lock().remove(&server("b.org"));
    others.down.lock().remove(&server("c.org"));
    // It is the other server that says it is there.
    couriers.heard_from(&server("b.org"));
    let begun = world.ports.clock.now_ms();
    others
        .until("had by both", |_| names[..2].iter().all(|name| bodies(&others.arrived(name)).len() == 2))
        .await;
    let took = world.ports.clock.now_ms() - begun;
    assert!(took < 5_000, "{took} ms");
    assert_eq!(tries("d.org"), before);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn updates_of_devices_follow_one_another() {
    let world = World::new().await;
    let (_couriers, _stopping) = world.start();
    let others = &world.others;
    for (count, device) in [(1, "ONE"), (2, "TWO")] {
        world.log_in(device).await;
        others.until("told", |_| others.edus("b.org", "m.device_list_update").len() == count).await;
    }
    world.devices.rename(&alice(), "ONE".into(), "another name").await.unwrap();
    others.until("renamed", |_| others.edus("b.org", "m.device_list_update").len() == 3).await;
    world.devices.remove(&alice(), &["TWO".into()]).await.unwrap();
    others.until("removed", |_| others.edus("b.org", "m.device_list_update").len() == 4).await;

    let updates = others.edus("b.org", "m.device_list_update");
    let seen = |update: &Value| {
        let text = |name: &str| update[name].as_str().unwrap_or_default().to_owned();
        (text("device_id"), text("device_display_name"), update["deleted"] == true)
    };
    assert_eq!(
        updates.iter().map(seen).collect::<Vec<_>>(),
        [
            ("ONE".into(), "ONE's name".into(), false),
            ("TWO".into(), "TWO's name".into(), false),
            ("ONE".into(), "another name".into(), false),
            ("TWO".into(), String::new(), true),
        ]
    );
    assert_eq!(updates[0]["prev_id"], json!([]));
    for pair in updates.windows(2) {
        assert_eq!(pair[1]["prev_id"], json!([pair[0]["stream_id"]]), "{pair:#?}");
    }
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_delays_nobody_and_misses_nothing() {
    let world = World::new().await;
    world.lets_in("c.org").await;
    let others = &world.others;
    others.down.lock().insert(server("b.org"));
    let (couriers, stopping) = world.start();
    world.say("one").await;
    others.until("tried", |attempts| attempts.iter().filter(|one| one.server == "b.org").count() >= 2).await;
    world.say("two").await;
    others.until("had by c.org", |_| bodies(&others.arrived("c.org")) == ["one", "two"]).await;
    // What is tried again at once is the same; after a pause it is planned anew and has another id.
    others
        .until("in trouble", |attempts| attempts.iter().filter(|one| one.server == "b.org").count() >= 4)
        .await;
    let mut by_id: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for attempt in others.attempts.lock().iter().filter(|attempt| attempt.server == "b.org") {
        by_id.entry(attempt.id.clone()).or_default().insert(attempt.body.to_string());
    }
    assert!(by_id.values().all(|bodies| bodies.len() == 1), "{by_id:#?}");
    let troubled = couriers.troubled().await.unwrap();
    assert_eq!(troubled.len(), 1);
    assert_eq!((troubled[0].0.as_str(), troubled[0].1.last_error.as_str()), ("b.org", "no route"));
    let standings = couriers.standings(None).await.unwrap();
    let of_b = standings.iter().find(|standing| standing.server == "b.org").unwrap();
    assert!(of_b.waiting >= 2 && of_b.trouble.as_ref() == Some(&troubled[0].1), "{standings:?}");
    assert_eq!(stored_standings(&world.log, Some(server_name!("b.org"))).await.unwrap()[0], *of_b);

    // The trouble outlives a restart; nobody is tried before the pause is over, unless heard from.
    stopping.cancel();
    let (couriers, _stopping) = world.start();
    others.until("poked", |attempts| attempts.iter().filter(|one| one.server == "c.org").count() >= 3).await;
    others.down.lock().clear();
    let before = tokio::time::Instant::now();
    couriers.heard_from(server_name!("b.org"));
    others.until("had by b.org", |_| bodies(&others.arrived("b.org")) == ["one", "two"]).await;
    assert!(before.elapsed() < Duration::from_secs(5), "waited for {:?}", before.elapsed());
    world.say("three").await;
    others.until("had by b.org", |_| bodies(&others.arrived("b.org")) == ["one", "two", "three"]).await;
    assert_eq!(bodies(&others.arrived("c.org")), ["one", "two", "three"]);
    assert!(couriers.troubled().await.unwrap().is_empty());
    let standing = async || couriers.standings(Some(server_name!("b.org"))).await.unwrap().remove(0);
    let mut of_b = standing().await;
    // That it has arrived is written down a moment after it has.
    for _ in 0..1_000 {
        if of_b.waiting == 0 {
            break;
        }
        tokio::task::yield_now().await;
        of_b = standing().await;
    }
    assert_eq!((of_b.waiting, of_b.more, of_b.trouble), (0, false, None));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_end_by_themselves() {
    let world = World::new().await;
    let others = &world.others;
    others.down.lock().insert(server("b.org"));
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    let start = tokio::time::Instant::now();
    others.until("tried long", |attempts| attempts.len() >= 6).await;
    // 10 + 20 + 40 + 80 seconds at least, a fifth more at most.
    let waited = start.elapsed().as_secs();
    assert!((150..200).contains(&waited), "{waited} seconds");
    assert_eq!(couriers.troubled().await.unwrap()[0].1.failing_since_ms, 1_000_500);
    others.down.lock().clear();
    others.until("arrived", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    world.log.close();
}
