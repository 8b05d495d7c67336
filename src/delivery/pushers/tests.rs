//! Pushers with a simulated gateway: by case, and by a random model with crashes and lost answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    api::{client::push::Pusher, push_gateway::send_event_notification::v1::Notification},
    server_name,
};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod letters;
mod quiet;
mod shares;

use super::{Digest, Gateway, Letters, Means, Pushers};
use crate::{
    account::{Accounts, Caller, NewSession, NewUser},
    delivery::{Settings, TransportError},
    device::Devices,
    ephemeral::{Ephemeral, Markers},
    history::History,
    keys::SigningKey,
    log::Log,
    peer::{self, Isolated, Peers},
    push::{Push, PusherSetting},
    room::{Message, NewRoom, Rooms},
    store::{BoxFuture, Db, memory::Memory},
    types::{PausedClock, Ports, SeededRng},
};

/// What the gateway does with what it gets.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Fails,
    /// Takes it, but the answer is lost.
    Loses,
    Rejects,
    /// A mistake in this program comes to light.
    Panics,
}

struct Phones {
    mood: Mutex<Mood>,
    /// What was taken, in order: the pushkey and the notification.
    taken: Mutex<Vec<(String, Value)>>,
    tries: Mutex<usize>,
    /// What slow gateways were told.
    slow: Mutex<usize>,
    /// Letters, for pushers that write some.
    letters: Mutex<Vec<Digest>>,
    changed: Notify,
}

impl Letters for Phones {
    fn send<'a>(&'a self, digest: Digest) -> BoxFuture<'a, Result<(), TransportError>> {
        *self.tries.lock() += 1;
        let is_taken = *self.mood.lock() == Mood::Takes;
        if is_taken {
            self.letters.lock().push(digest);
        }
        self.changed.notify_one();
        Box::pin(async move {
            let failed = || TransportError { message: "421".into(), retry_after: None, is_refusal: false };
            is_taken.then_some(()).ok_or_else(failed)
        })
    }
}

impl Gateway for Phones {
    fn notify<'a>(
        &'a self,
        url: &'a str,
        notification: Notification,
    ) -> BoxFuture<'a, Result<Vec<String>, TransportError>> {
        if url.starts_with("https://slow") {
            *self.slow.lock() += 1;
            return Box::pin(async {
                tokio::time::sleep(Duration::from_secs(29)).await;
                Ok(Vec::new())
            });
        }
        assert_eq!(url, "https://push.example.org/_matrix/push/v1/notify");
        let mood = *self.mood.lock();
        *self.tries.lock() += 1;
        let body = super::render::body(&notification).unwrap()["notification"].take();
        let key = body["devices"][0]["pushkey"].as_str().unwrap().to_owned();
        if matches!(mood, Mood::Takes | Mood::Loses) {
            self.taken.lock().push((key.clone(), body));
        }
        self.changed.notify_one();
        assert!(mood != Mood::Panics, "a mistake");
        Box::pin(async move {
            let fails = |message: &str| {
                Err(TransportError { message: message.to_owned(), retry_after: None, is_refusal: false })
            };
            match mood {
                Mood::Takes => Ok(Vec::new()),
                Mood::Fails => fails("503"),
                Mood::Loses => fails("no answer"),
                Mood::Rejects => Ok(vec![key, "somebody else's".to_owned()]),
                Mood::Panics => unreachable!("it has panicked"),
            }
        })
    }
}

impl Phones {
    fn new() -> Arc<Self> {
        let (taken, tries, slow, letters, changed) = Default::default();
        Arc::new(Self { mood: Mutex::new(Mood::Takes), taken, tries, slow, letters, changed })
    }

    async fn until(&self, what: &str, wanted: impl Fn(&[(String, Value)]) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(7_200), async {
            loop {
                let taken = self.taken.lock().clone();
                if wanted(&taken) {
                    return;
                }
                self.changed.notified().await;
            }
        });
        assert!(waited.await.is_ok(), "never {what}: {:#?}", self.taken.lock());
    }

    /// Event ids that were told, in order.
    fn events(&self) -> Vec<String> {
        let taken = self.taken.lock();
        taken.iter().filter_map(|(_, body)| Some(body["event_id"].as_str()?.to_owned())).collect()
    }

    fn last_badge(&self) -> Option<u64> {
        let taken = self.taken.lock();
        taken.last().map(|(_, body)| body["counts"]["unread"].as_u64().unwrap_or_default())
    }
}

struct World {
    db: Db,
    ports: Ports,
    phones: Arc<Phones>,
    log: Log,
    accounts: Accounts,
    devices: Devices,
    rooms: Rooms,
    ephemeral: Ephemeral,
    push: Push,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:a.org")).unwrap()
}

fn pusher(key: &str, format: Option<&str>) -> Pusher {
    let mut data = json!({ "url": "https://push.example.org/_matrix/push/v1/notify", "brand": "x" });
    if let Some(format) = format {
        data["format"] = format.into();
    }
    serde_json::from_value(json!({
        "app_id": "org.example.app", "pushkey": key, "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "data": data,
    }))
    .unwrap()
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(PausedClock::at(1_000_000));
        let ports = Ports { clock, rng: Arc::new(SeededRng::new(1)) };
        let world = Self::start(Db::new(Arc::new(Memory::new())), ports, Phones::new()).await;
        for name in ["alice", "bob"] {
            let new = NewUser { username: Some(name.into()), ..NewUser::default() };
            world.accounts.create_user(new).await.unwrap();
        }
        for device in ["PHONE", "TABLET"] {
            let session = NewSession {
                user_id: user("alice"),
                device_id: Some(device.into()),
                display_name: None,
                refreshes: false,
                client: None,
            };
            world.accounts.start_session(session).await.unwrap();
        }
        world
    }

    async fn start(db: Db, ports: Ports, phones: Arc<Phones>) -> Self {
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
        let expiry = (&tasks, stopping.clone());
        let ephemeral = Ephemeral::new(history.clone(), accounts.clone(), ports.clone(), false, expiry);
        let push = Push::new(history.clone(), accounts.clone());
        let settings =
            Settings { first_pause: Duration::from_secs(10), longest_pause: Duration::from_secs(600) };
        // It runs by itself; only its notifications are looked at.
        drop(Pushers::start(
            (history, push.clone()),
            Means {
                gateway: phones.clone(),
                letters: Some(phones.clone()),
                letter_delay: Duration::from_secs(600),
            },
            settings,
            ports.clone(),
            (&tasks, stopping.clone()),
        ));
        Self { db, ports, phones, log, accounts, devices, rooms, ephemeral, push, tasks, stopping }
    }

    /// The same store, with everything in memory lost.
    async fn crash(self) -> Self {
        self.stopping.cancel();
        self.log.close();
        let Self { db, ports, phones, .. } = self;
        Self::start(db, ports, phones).await
    }

    async fn room(&self) -> OwnedRoomId {
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        let room = self.rooms.create(&user("bob"), room).await.unwrap();
        self.rooms.join(&user("alice"), &room, None, Map::new()).await.unwrap();
        room
    }

    async fn set(&self, device: &str, pusher: &Pusher, append: bool) {
        let caller = Caller { user_id: user("alice"), device_id: device.into() };
        let setting = PusherSetting { append, disabled: false, now_ms: 5_000 };
        self.push.set_pusher(&caller, pusher, setting).await.unwrap();
    }

    async fn say(&self, name: &str, room: &RoomId, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        self.rooms.send(&user(name), room, message).await.unwrap()
    }

    async fn read(&self, room: &RoomId, event_id: &OwnedEventId) {
        let markers = Markers { read: Some(event_id.clone()), ..Markers::default() };
        self.ephemeral.set_markers(room, &user("alice"), &markers).await.unwrap();
    }

    async fn unread(&self) -> u64 {
        let rooms = self.rooms.history().joined_rooms(&user("alice")).await.unwrap();
        // Counted anew, by one who knows nothing.
        let fresh = Push::new(self.rooms.history().clone(), self.accounts.clone());
        let unread = fresh.unread(&user("alice"), &rooms, self.log.head()).await.unwrap();
        unread.iter().map(|unread| unread.total().notification).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_told_with_what_the_rules_say() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    let event_id = world.say("bob", &room, "hello alice").await;
    world.say("alice", &room, "my own words are not told to me").await;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    let (_, told) = world.phones.taken.lock()[0].clone();
    assert_eq!(told["event_id"], event_id.as_str());
    assert_eq!(told["room_id"], room.as_str());
    assert_eq!((&told["type"], &told["sender"]), (&json!("m.room.message"), &json!("@bob:a.org")));
    assert_eq!(told["content"]["body"], "hello alice");
    assert_eq!(told["sender_display_name"], "bob");
    let device = &told["devices"][0];
    assert_eq!((&device["app_id"], &device["pushkey"]), (&json!("org.example.app"), &json!("key")));
    assert_eq!(device["pushkey_ts"], 5);
    assert_eq!(device["data"], json!({ "brand": "x" }), "the URL is not told");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn tweaks_are_told_as_far_as_they_say_something() {
    let world = World::new().await;
    let room = world.room().await;
    let actions = json!([
        "notify", { "set_tweak": "org.example.nothing" }, { "set_tweak": "org.example.colour", "value": "red" },
        { "set_tweak": "highlight" }, { "set_tweak": "sound", "value": "ring" }
    ]);
    let actions: Vec<ruma::push::Action> = serde_json::from_value(actions).unwrap();
    let alice = user("alice");
    let changed = world.accounts.change_push_rules(&alice, |rules| {
        let rule = ruma::push::NewPatternedPushRule::new("mine".into(), "hello".into(), actions.clone());
        rules.insert(ruma::push::NewPushRule::Content(rule), None, None).unwrap();
        Ok::<_, crate::account::AccountError>(())
    });
    changed.await.unwrap();
    world.set("PHONE", &pusher("key", None), false).await;
    world.say("bob", &room, "hello").await;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    let told = world.phones.taken.lock()[0].1["devices"][0]["tweaks"].clone();
    assert_eq!(told, json!({ "org.example.colour": "red", "highlight": true, "sound": "ring" }));
    world.log.close();
}

/// Row 3.17 of the list of known vulnerabilities: a mistake does not silence a phone until the server is started anew.
#[tokio::test(start_paused = true)]
async fn row_3_17_a_pusher_is_served_again_after_a_mistake() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    *world.phones.mood.lock() = Mood::Panics;
    let first = world.say("bob", &room, "one").await;
    let tried = tokio::time::timeout(Duration::from_secs(600), async {
        while *world.phones.tries.lock() < 2 {
            world.phones.changed.notified().await;
        }
    });
    assert!(tried.await.is_ok(), "it is not served any more");
    *world.phones.mood.lock() = Mood::Takes;
    let second = world.say("bob", &room, "two").await;
    world.phones.until("told", |taken| taken.len() >= 2).await;
    assert_eq!(world.phones.events(), [first.to_string(), second.to_string()]);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn event_id_only_tells_little() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", Some("event_id_only")), false).await;
    world.say("bob", &room, "secret words").await;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    let (_, told) = world.phones.taken.lock()[0].clone();
    let mut fields: Vec<&String> = told.as_object().unwrap().keys().collect();
    fields.retain(|field| *field != "prio");
    fields.sort();
    assert_eq!(fields, ["counts", "devices", "event_id", "room_id"]);
    assert!(!told.to_string().contains("secret"));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_pusher_that_is_switched_off_tells_nothing_and_of_what_comes_later_only() {
    let world = World::new().await;
    let room = world.room().await;
    let (caller, switched) =
        (Caller { user_id: user("alice"), device_id: "PHONE".into() }, pusher("key", None));
    for (disabled, body) in [(false, "one"), (true, "two"), (true, "three"), (false, "four")] {
        let setting = PusherSetting { append: false, disabled, now_ms: 5_000 };
        world.push.set_pusher(&caller, &switched, setting).await.unwrap();
        world.say("bob", &room, body).await;
        if !disabled {
            world
                .phones
                .until(body, |taken| taken.last().is_some_and(|(_, it)| it["content"]["body"] == body))
                .await;
        }
    }
    assert_eq!(world.phones.events().len(), 2);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn an_invite_is_told_and_what_is_read_elsewhere_clears_the_badge() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    let other = world.rooms.create(&user("bob"), NewRoom::default()).await.unwrap();
    world.rooms.invite(&user("bob"), &other, &user("alice"), None).await.unwrap();
    world.phones.until("invited", |taken| taken.len() == 1).await;
    let told = world.phones.taken.lock()[0].1.clone();
    assert_eq!((&told["type"], &told["user_is_target"]), (&json!("m.room.member"), &json!(true)));
    let event_id = world.say("bob", &room, "one").await;
    world.phones.until("told", |taken| taken.len() == 2).await;
    assert_eq!(world.phones.last_badge(), Some(1));
    world.read(&room, &event_id).await;
    world.phones.until("cleared", |taken| taken.len() == 3).await;
    let cleared = world.phones.taken.lock()[2].1.clone();
    assert_eq!((cleared.get("event_id"), &cleared["counts"]), (None, &json!({ "unread": 0 })), "{cleared}");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_is_tried_again_over_restarts_and_what_was_read_is_not_told() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    *world.phones.mood.lock() = Mood::Fails;
    let one = world.say("bob", &room, "one").await;
    while *world.phones.tries.lock() < 3 {
        world.phones.changed.notified().await;
    }
    let two = world.say("bob", &room, "two").await;
    let world = world.crash().await;
    let trouble = world.push.pushers(&user("alice")).await.unwrap()[0].1.trouble.clone().unwrap();
    assert_eq!(trouble.last_error, "503");
    assert!(trouble.failures >= 2, "{trouble:?}");
    world.read(&room, &one).await;
    *world.phones.mood.lock() = Mood::Takes;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    assert_eq!(world.phones.events(), [two.as_str()]);
    assert_eq!(world.push.pushers(&user("alice")).await.unwrap().len(), 1);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn exactly_the_rejected_pushkey_goes() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    *world.phones.mood.lock() = Mood::Rejects;
    world.say("bob", &room, "one").await;
    while !world.push.pushers(&user("alice")).await.unwrap().is_empty() {
        world.phones.changed.notified().await;
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.set("PHONE", &pusher("key", None), false).await;
    world.set("TABLET", &pusher("other", None), false).await;
    *world.phones.mood.lock() = Mood::Takes;
    world.say("bob", &room, "two").await;
    world.phones.until("told to both", |taken| taken.len() == 2).await;
    // The pusher goes with its device.
    world.devices.remove(&user("alice"), &["TABLET".into()]).await.unwrap();
    let left = world.push.pushers(&user("alice")).await.unwrap();
    assert_eq!(left.iter().map(|(id, _)| id.pushkey.as_str()).collect::<Vec<_>>(), ["key"]);
    world.log.close();
}

/// Says, reads, fails, loses answers and crashes at random; in the end everything unread was told, only
/// what was lost was told again, and the badge is what a sync says.
async fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await;
    let rooms = [world.room().await, world.room().await];
    world.set("PHONE", &pusher("key", Some("event_id_only")), false).await;
    let mut said: Vec<(usize, OwnedEventId)> = Vec::new();
    let mut trouble = 0;
    for _ in 0..40 {
        match rng.random_range(0..10) {
            0..5 => {
                let room = rng.random_range(0..2);
                said.push((room, world.say("bob", &rooms[room], "hello").await));
            }
            5 => {
                let room = rng.random_range(0..2);
                if let Some((_, last)) = said.iter().rfind(|(at, _)| *at == room) {
                    world.read(&rooms[room], last).await;
                }
            }
            6 => *world.phones.mood.lock() = Mood::Takes,
            7 => *world.phones.mood.lock() = [Mood::Fails, Mood::Loses][rng.random_range(0..2)],
            8 => {
                trouble += 1;
                world = world.crash().await;
            }
            _ => tokio::time::sleep(Duration::from_secs(rng.random_range(0..60))).await,
        }
        if *world.phones.mood.lock() == Mood::Loses {
            trouble += 1;
        }
        for _ in 0..rng.random_range(0..20) {
            tokio::task::yield_now().await;
        }
    }
    *world.phones.mood.lock() = Mood::Takes;
    let last = world.say("bob", &rooms[0], "the last one").await;
    said.push((0, last.clone()));
    world.phones.until("told of the last one", |_| world.phones.events().contains(&last.to_string())).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let told = world.phones.events();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    told.iter().for_each(|id| *counts.entry(id).or_default() += 1);
    let again: usize = counts.values().map(|count| count - 1).sum();
    assert!(trouble > 0 || again == 0, "seed {seed}: told twice without a reason: {counts:?}");
    let unread = world.unread().await;
    assert_eq!(world.phones.last_badge(), Some(unread), "seed {seed}: the badge");
    let mut left = unread;
    for (room, event_id) in said.iter().rev() {
        // What is unread is the newest of each room.
        if left > 0 && counts.contains_key(event_id.as_str()) {
            left -= 1;
        }
        let _ = room;
    }
    assert_eq!(left, 0, "seed {seed}: fewer were told than are unread");
    let first = |id: &OwnedEventId| told.iter().position(|known| *known == id.as_str());
    let order: Vec<usize> = said.iter().filter_map(|(_, id)| first(id)).collect();
    assert!(order.is_sorted(), "seed {seed}: out of order: {order:?}");
    world.stopping.cancel();
    world.log.close();
    world.tasks.close();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_the_badge_is_right_whatever_happens() {
    for seed in 0..60 {
        run(seed).await;
    }
}
