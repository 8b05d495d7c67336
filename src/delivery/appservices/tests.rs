//! Application services with a simulated transport, by case.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, server_name};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod model;
mod portions;

use super::{AppserviceCouriers, AppserviceTransport};
use crate::{
    account::{Accounts, NewUser},
    appservice::{Appservice, Appservices, Registration},
    delivery::{Settings, TransportError},
    device::Devices,
    history::History,
    keys::SigningKey,
    log::{Commit, Log},
    peer::{self, Isolated, Peers},
    room::{Message, NewRoom, Rooms},
    store::{BoxFuture, Db, Key, memory::Memory, table::TableId},
    types::{Fact, Lane, PausedClock, Ports, ReceiptKind, SeededRng},
};

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Fails,
    /// Takes it, but the answer is lost.
    Loses,
    /// Refuses what has more than two events.
    Narrow,
}

/// A bridge that remembers transactions by their ids, as all do.
struct Bridge {
    mood: Mutex<Mood>,
    /// Every transaction that came, repetitions included.
    came: Mutex<Vec<(String, Value)>>,
    /// The same for one that is not there from the beginning.
    came_late: Mutex<Vec<(String, Value)>>,
    /// What is refused.
    refuses: Mutex<fn(&Value) -> bool>,
    /// Transactions that were refused.
    refused: Mutex<usize>,
    /// Bodies by the application service and the id, whatever has become of them.
    offered: Mutex<BTreeMap<(String, String), Bytes>>,
    changed: Notify,
}

impl AppserviceTransport for Bridge {
    fn put<'a>(
        &'a self,
        to: &'a Appservice,
        txn_id: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        let mood = *self.mood.lock();
        let name = (to.registration.id.clone(), txn_id.to_owned());
        let before = self.offered.lock().insert(name, body.clone());
        assert!(before.is_none_or(|before| before == body), "another body with the id {txn_id}");
        let told: Value = serde_json::from_slice(&body).unwrap();
        let is_wide = mood == Mood::Narrow && told["events"].as_array().unwrap().len() > 2;
        if mood != Mood::Fails && (is_wide || self.refuses.lock()(&told)) {
            *self.refused.lock() += 1;
            self.changed.notify_one();
            let message = "too large".into();
            return Box::pin(async { Err(TransportError { message, retry_after: None, is_refusal: true }) });
        }
        if mood != Mood::Fails {
            let came = if to.is("irc") { &self.came } else { &self.came_late };
            came.lock().push((txn_id.to_owned(), told));
        }
        self.changed.notify_one();
        Box::pin(async move {
            match mood {
                Mood::Takes | Mood::Narrow => Ok(()),
                _ => {
                    Err(TransportError { message: "no answer".into(), retry_after: None, is_refusal: false })
                }
            }
        })
    }
}

impl Bridge {
    /// The transactions that it worked on: of one id only the first, and the others were the same.
    fn taken(&self) -> Vec<Value> {
        let (mut known, mut taken) = (BTreeMap::new(), Vec::new());
        for (id, body) in self.came.lock().iter() {
            match known.get(id) {
                Some(before) => assert_eq!(before, body, "another body with the id {id}"),
                None => {
                    known.insert(id.clone(), body.clone());
                    taken.push(body.clone());
                }
            }
        }
        taken
    }

    fn events(&self) -> Vec<String> {
        let events = self.taken().into_iter().flat_map(|body| body["events"].as_array().unwrap().clone());
        events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(7_200), async {
            while !wanted() {
                self.changed.notified().await;
            }
        });
        assert!(waited.await.is_ok(), "never {what}: {:#?}", self.came.lock());
    }
}

const REGISTRATION: &str = "
id: irc
url: http://localhost:1
as_token: as
hs_token: hs
sender_localpart: irc_bot
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc3202: true
namespaces:
  users: [{ exclusive: true, regex: '@irc_.*' }]
  aliases: [{ exclusive: true, regex: '#irc_.*' }]
";

struct World {
    db: Db,
    ports: Ports,
    bridge: Arc<Bridge>,
    log: Log,
    accounts: Accounts,
    rooms: Rooms,
    couriers: AppserviceCouriers,
    appservices: Appservices,
    stopping: CancellationToken,
}

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:a.org")).unwrap()
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(PausedClock::at(1_000_000));
        let ports = Ports { clock, rng: Arc::new(SeededRng::new(1)) };
        let bridge = Arc::new(Bridge {
            mood: Mutex::new(Mood::Takes),
            came: Mutex::default(),
            came_late: Mutex::default(),
            refuses: Mutex::new(|_| false),
            refused: Mutex::default(),
            offered: Mutex::default(),
            changed: Notify::new(),
        });
        let world = Self::start(Db::new(Arc::new(Memory::new())), ports, bridge).await;
        for name in ["alice", "irc_bot", "irc_bob"] {
            let new = NewUser { username: Some(name.into()), ..NewUser::default() };
            world.accounts.create_user(new).await.unwrap();
        }
        world
    }

    async fn start(db: Db, ports: Ports, bridge: Arc<Bridge>) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let log = Log::open(db.clone(), &tasks).await.unwrap();
        let server = server_name!("a.org").to_owned();
        let history = History::open(log.clone(), ports.clone(), server.clone()).await.unwrap();
        let accounts = Accounts::new(log.clone(), ports.clone(), server.clone(), Default::default());
        let devices = Devices::new(log.clone(), ports.clone(), server.clone());
        let key = Arc::new(SigningKey::from_seed(server, "k", [1; 32]).unwrap());
        let peers =
            Peers::new(Arc::new(Isolated), log.clone(), ports.clone(), key, peer::Settings::default());
        let profiles = Arc::new(accounts.clone());
        let rooms = Rooms::new(history.clone(), peers, ports.clone(), profiles, tasks.clone());
        let registration = Registration::parse(REGISTRATION).unwrap();
        let appservices = Appservices::new(vec![registration.open(server_name!("a.org")).unwrap()]).unwrap();
        let settings =
            Settings { first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) };
        let couriers = AppserviceCouriers::start(
            &appservices,
            (history, accounts.clone(), devices),
            (bridge.clone(), settings),
            ports.clone(),
            (&tasks, stopping.clone()),
        );
        // It begins at the present, whenever that is.
        let appservice = appservices.by_token("as").unwrap();
        while couriers.standing(&appservice).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        Self { db, ports, bridge, log, accounts, rooms, couriers, appservices, stopping }
    }

    /// The same store, with everything in memory lost.
    async fn crash(self) -> Self {
        self.stopping.cancel();
        self.log.close();
        let Self { db, ports, bridge, .. } = self;
        Self::start(db, ports, bridge).await
    }

    async fn room(&self) -> OwnedRoomId {
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        self.rooms.create(&user("alice"), room).await.unwrap()
    }

    async fn join(&self, name: &str, room: &RoomId) {
        self.rooms.join(&user(name), room, None, Map::new()).await.unwrap();
    }

    async fn say(&self, name: &str, room: &RoomId, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        self.rooms.send(&user(name), room, message).await.unwrap()
    }

    async fn fact(&self, lane: Lane, fact: Fact) {
        let mut commit = Commit::new();
        commit.fact(lane, fact);
        self.log.commit(commit).await.unwrap();
    }

    /// Whom device lists name, in the order of the transactions.
    fn told_of(&self, what: &str) -> Vec<String> {
        let taken = self.bridge.taken().into_iter();
        let lists = taken.map(|body| body["org.matrix.msc3202.device_lists"][what].clone());
        let users = lists.flat_map(|users| users.as_array().cloned().unwrap_or_default());
        users.map(|user| user.as_str().unwrap().to_owned()).collect()
    }

    /// What people say of themselves.
    fn present(&self) -> Vec<String> {
        let taken = self.bridge.taken().into_iter();
        let events = taken.flat_map(|body| body["ephemeral"].as_array().cloned().unwrap_or_default());
        let events = events.filter(|event| event["type"] == "m.presence");
        events.map(|event| event["content"]["status_msg"].as_str().unwrap().to_owned()).collect()
    }

    fn bodies(&self) -> Vec<String> {
        let taken = self.bridge.taken().into_iter();
        let events = taken.flat_map(|body| body["events"].as_array().unwrap().clone());
        events.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn it_hears_of_the_rooms_that_its_users_are_in_and_only_while_they_are() {
    let world = World::new().await;
    let (room, other) = (world.room().await, world.room().await);
    world.say("alice", &room, "before").await;
    world.say("alice", &other, "elsewhere").await;
    world.join("irc_bob", &room).await;
    world.say("alice", &room, "during").await;
    world.rooms.leave(&user("irc_bob"), &room, None).await.unwrap();
    world.say("alice", &room, "after").await;
    // By then what came before has been looked at.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let named = ruma::room_alias_id!("#irc_lounge:a.org");
    world.rooms.put_alias(&user("alice"), named, &other).await.unwrap();
    world.say("alice", &other, "named").await;
    world.bridge.until("named", || world.bodies().last().is_some_and(|last| last == "named")).await;
    world.rooms.delete_alias(&user("alice"), named).await.unwrap();
    world.say("alice", &other, "named no more").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.rooms.leave(&user("alice"), &room, None).await.unwrap();
    let third = world.room().await;
    world.join("irc_bot", &third).await;
    world.say("alice", &third, "the end").await;
    world.bridge.until("the end", || world.bodies().last().is_some_and(|last| last == "the end")).await;
    assert_eq!(world.bodies(), ["during", "named", "the end"]);
    let events = world.bridge.taken().into_iter().flat_map(|body| body["events"].as_array().unwrap().clone());
    let members: Vec<Value> = events.filter(|event| event["type"] == "m.room.member").collect();
    let seen = |event: &Value| {
        (event["state_key"].as_str().unwrap().to_owned(), event["content"]["membership"].clone())
    };
    let (bob, bot) = ("@irc_bob:a.org".to_owned(), "@irc_bot:a.org".to_owned());
    assert_eq!(
        members.iter().map(seen).collect::<Vec<_>>(),
        [(bob.clone(), json!("join")), (bob, json!("leave")), (bot, json!("join"))]
    );
    assert!(members.iter().all(|event| event["room_id"].is_string()));
    world.log.close();
}

/// Its own user is in none of its rooms; what is kept from him is not kept from it.
#[tokio::test(start_paused = true)]
async fn it_hears_what_a_state_event_replaced() {
    let world = World::new().await;
    let room = world.room().await;
    let set = async |event_type: &str, content: Value| {
        let content = to_raw_value(&content).unwrap();
        world.rooms.set_state(&user("alice"), &room, (&event_type.into(), ""), content).await.unwrap();
    };
    set("m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
    world.join("irc_bob", &room).await;
    set("m.room.topic", json!({ "topic": "one" })).await;
    set("m.room.topic", json!({ "topic": "two" })).await;
    world.say("alice", &room, "the end").await;
    world.bridge.until("the end", || world.bodies().last().is_some_and(|last| last == "the end")).await;
    let events = world.bridge.taken().into_iter().flat_map(|body| body["events"].as_array().unwrap().clone());
    let topics: Vec<Value> = events.filter(|event| event["type"] == "m.room.topic").collect();
    assert_eq!(topics[1]["unsigned"]["prev_content"], json!({ "topic": "one" }), "{topics:#?}");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn it_hears_of_people_whom_its_users_meet_and_of_nobody_else() {
    let world = World::new().await;
    let (room, other) = (world.room().await, world.room().await);
    world.join("carol", &other).await;
    let news = |name: &str| {
        let content = json!({ "presence": "online", "status_msg": name }).to_string();
        [Fact::Devices { user_id: user(name) }, Fact::Presence { user_id: user(name), content }]
    };
    for fact in news("carol").into_iter().chain(news("alice")) {
        world.fact(Lane::People, fact).await;
    }
    world.join("irc_bob", &room).await;
    world.bridge.until("who was there", || !world.told_of("changed").is_empty()).await;
    assert_eq!(world.told_of("changed"), ["@alice:a.org", "@irc_bob:a.org"], "whom bob has met");
    world.join("carol", &room).await;
    for fact in news("carol") {
        world.fact(Lane::People, fact).await;
    }
    world.say("alice", &room, "hello").await;
    let told = || world.present().iter().filter(|name| *name == "carol").count();
    world.bridge.until("carol's presence", || told() > 0).await;
    assert_eq!(told(), 1, "not from before she came");
    assert!(world.told_of("changed").contains(&"@carol:a.org".to_owned()), "carol has come");
    assert!(world.told_of("left").is_empty());
    world.rooms.leave(&user("carol"), &room, None).await.unwrap();
    world.bridge.until("carol is gone", || !world.told_of("left").is_empty()).await;
    assert_eq!(world.told_of("left"), ["@carol:a.org"]);
    world.log.close();
}

/// One that cannot be read is left out: nothing else would ever come.
#[tokio::test(start_paused = true)]
async fn a_damaged_event_holds_up_no_other() {
    let world = World::new().await;
    let room = world.room().await;
    world.join("irc_bob", &room).await;
    let first = world.say("alice", &room, "first").await;
    world.bridge.until("the first", || world.bridge.events().contains(&first.to_string())).await;
    world.stopping.cancel();
    let hurt = world.say("alice", &room, "hurt").await;
    let after = world.say("alice", &room, "after").await;
    let mut commit = Commit::new();
    commit.put_raw(Key::new(TableId::Event, &(hurt.clone(),)), b"rubbish".to_vec());
    world.log.commit(commit).await.unwrap();
    let world = world.crash().await;
    world.bridge.until("what came after", || world.bridge.events().contains(&after.to_string())).await;
    assert!(!world.bridge.events().contains(&hurt.to_string()));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn ephemeral_data_and_messages_to_devices_come_along_and_private_receipts_do_not() {
    let world = World::new().await;
    let room = world.room().await;
    world.join("irc_bob", &room).await;
    let event_id = world.say("alice", &room, "hello").await;
    let receipt = |kind| Fact::Receipt {
        kind,
        user_id: user("alice"),
        room_id: room.clone(),
        thread_id: None,
        event_id: event_id.clone(),
        ts: 5,
    };
    world.fact(Lane::Account(user("alice")), receipt(ReceiptKind::ReadPrivate)).await;
    let own = Fact::Receipt {
        kind: ReceiptKind::ReadPrivate,
        user_id: user("irc_bob"),
        room_id: room.clone(),
        thread_id: Some("main".into()),
        event_id: event_id.clone(),
        ts: 6,
    };
    world.fact(Lane::Account(user("irc_bob")), own).await;
    world.fact(Lane::Room(room.clone()), receipt(ReceiptKind::Read)).await;
    world.fact(Lane::Room(room.clone()), Fact::Typing { user_ids: vec![user("alice")] }).await;
    let device = ruma::device_id!("BRIDGE").to_owned();
    world.accounts.make_device(&user("irc_bob"), &device, None).await.unwrap();
    let inbox = Lane::Inbox(user("irc_bob"), device);
    let content = json!({ "secret": 1 }).to_string();
    let message = Fact::ToDevice { sender: user("alice"), event_type: "m.room_key".into(), content };
    world.fact(inbox.clone(), message).await;
    world.fact(inbox.clone(), Fact::KeyCounts).await;
    let last = world.say("alice", &room, "last").await;
    world.bridge.until("the last", || world.bridge.events().contains(&last.to_string())).await;
    let gather = |field: &str| -> Vec<Value> {
        let taken = world.bridge.taken().into_iter();
        taken.flat_map(|body| body[field].as_array().cloned().unwrap_or_default()).collect()
    };
    let (private, others): (Vec<Value>, Vec<Value>) = gather("ephemeral")
        .into_iter()
        .partition(|event| event["content"][event_id.as_str()]["m.read.private"].is_object());
    assert_eq!(
        private,
        [json!({ "type": "m.receipt", "room_id": room, "content": {
            event_id.as_str(): { "m.read.private": { "@irc_bob:a.org": { "ts": 6, "thread_id": "main" } } } } })],
        "what its own users have read"
    );
    assert_eq!(
        others,
        [
            json!({ "type": "m.receipt", "room_id": room, "content": {
                event_id.as_str(): { "m.read": { "@alice:a.org": { "ts": 5 } } } } }),
            json!({ "type": "m.typing", "room_id": room, "content": { "user_ids": ["@alice:a.org"] } }),
        ]
    );
    assert_eq!(
        gather("de.sorunome.msc2409.to_device"),
        [json!({ "type": "m.room_key", "sender": "@alice:a.org", "content": { "secret": 1 },
                 "to_user_id": "@irc_bob:a.org", "to_device_id": "BRIDGE" })]
    );
    let all = world.bridge.taken();
    assert!(world.told_of("changed").contains(&"@irc_bob:a.org".to_owned()), "{all:#?}");
    assert!(all.iter().any(|body| {
        body["org.matrix.msc3202.device_one_time_keys_count"]["@irc_bob:a.org"]["BRIDGE"].is_object()
    }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.log.queued(&inbox, Default::default(), 10).await.unwrap().is_empty(), "it was taken");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn what_goes_to_devices_that_sync_stays_there_and_comes_only_to_whom_encrypts_here() {
    let world = World::new().await;
    let (couriers, all) = (&world.couriers, &world.appservices);
    let text =
        "{ id: late, url: 'http://localhost:1', as_token: late, hs_token: late, sender_localpart: late_bot,
        receive_ephemeral: true, namespaces: { users: [{ exclusive: false, regex: '@.*' }] } }";
    let registered = async |text: &str| {
        let registration = Registration::parse(text).unwrap();
        let late = couriers.register(all, registration, server_name!("a.org")).await.unwrap();
        while couriers.standing(&late).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    registered(text).await;
    let room = world.room().await;
    let inbox = |device: &str| Lane::Inbox(user("alice"), device.into());
    let send = async |device: &str, number: u64| {
        let (sender, content) = (user("irc_bob"), json!({ "number": number }).to_string());
        world.fact(inbox(device), Fact::ToDevice { sender, event_type: "m.x".into(), content }).await;
    };
    let came = |field: &str, of: fn(&Value) -> Value| -> Vec<Value> {
        let came = world.bridge.came_late.lock();
        let found = came.iter().flat_map(|(_, body)| body[field].as_array().cloned().unwrap_or_default());
        found.map(|it| of(&it["content"])).filter(|it| !it.is_null()).collect()
    };
    let said = async |body: &str| {
        world.say("alice", &room, body).await;
        let last = || came("events", |content| content["body"].clone()).pop();
        world.bridge.until(body, || last().is_some_and(|last| last == body)).await;
        // What comes with it or after it is there.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let numbers = || came("de.sorunome.msc2409.to_device", |content| content["number"].clone());
    let waiting =
        async |device| world.log.queued(&inbox(device), Default::default(), 1_000).await.unwrap().len();
    send("PHONE", 1).await;
    said("one").await;
    assert_eq!((numbers(), waiting("PHONE").await), (vec![], 1), "it syncs");
    registered(&text.replace("receive_", "org.matrix.msc3202: true, receive_")).await;
    for number in 2..=252 {
        send("PHONE", number).await;
    }
    said("two").await;
    said("three").await;
    assert_eq!(numbers(), (2..=252).map(Value::from).collect::<Vec<_>>(), "each of them once and in order");
    assert_eq!(waiting("PHONE").await, 252, "the phone has not synced");
    world.accounts.make_device(&user("alice"), &ruma::owned_device_id!("MADE"), None).await.unwrap();
    send("MADE", 300).await;
    said("four").await;
    assert_eq!(numbers().last(), Some(&json!(300)));
    assert_eq!(
        (waiting("PHONE").await, waiting("MADE").await),
        (252, 0),
        "nobody else reads what is its own"
    );
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_backlog_comes_in_few_transactions_and_at_once_after_a_sign_of_life() {
    let world = World::new().await;
    let room = world.room().await;
    world.join("irc_bob", &room).await;
    world.bridge.until("joined", || !world.bridge.came.lock().is_empty()).await;
    *world.bridge.mood.lock() = Mood::Fails;
    for number in 0..250 {
        world.say("alice", &room, &format!("{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let appservice = &world.appservices.by_token("as").unwrap();
    let trouble = world.couriers.standing(appservice).await.unwrap().unwrap().trouble.unwrap();
    assert!(trouble.failures > 5, "{trouble:?}");
    let before = world.bridge.taken().len();
    *world.bridge.mood.lock() = Mood::Takes;
    let begun = tokio::time::Instant::now();
    world.couriers.heard_from(appservice);
    world.bridge.until("all of it", || world.bodies().len() == 250).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let expected: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    assert_eq!(world.bodies(), expected);
    let needed = world.bridge.taken().len() - before;
    assert!(needed <= 4, "{needed} transactions");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_late_is_served_from_then_on_until_it_goes() {
    let world = World::new().await;
    let (server, room) = (server_name!("a.org"), world.room().await);
    let new = NewUser { username: Some("late_bob".into()), ..NewUser::default() };
    world.accounts.create_user(new).await.unwrap();
    world.join("late_bob", &room).await;
    world.say("alice", &room, "too early").await;
    let text = REGISTRATION.replace("irc", "late").replace("as_token: as", "as_token: late");
    let text = text.replace("hs_token: hs", "hs_token: late");
    let registration = || Registration::parse(&text).unwrap();
    let (couriers, all) = (&world.couriers, &world.appservices);
    let late = couriers.register(all, registration(), server).await.unwrap();
    while couriers.standing(&late).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let bodies = || -> Vec<String> {
        let came = world.bridge.came_late.lock();
        let events = came.iter().flat_map(|(_, body)| body["events"].as_array().unwrap().clone());
        events.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    };
    world.say("alice", &room, "one").await;
    world.bridge.until("one", || bodies() == ["one"]).await;
    // Another registration goes on where the one before it was.
    *world.bridge.mood.lock() = Mood::Fails;
    world.say("alice", &room, "two").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    *world.bridge.mood.lock() = Mood::Takes;
    couriers.register(all, registration(), server).await.unwrap();
    world.bridge.until("two", || bodies() == ["one", "two"]).await;
    assert!(couriers.unregister(all, "late").await.unwrap());
    assert!(!couriers.unregister(all, "late").await.unwrap());
    assert!(couriers.unregister(all, "irc").await.is_err(), "it is in the configuration");
    world.say("alice", &room, "too late").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(bodies(), ["one", "two"]);
    assert_eq!(couriers.standing(&late).await.unwrap(), None, "nothing is left of it");
    world.log.close();
}
