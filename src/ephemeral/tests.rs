//! Typing, receipts and presence on the memory engine.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, server_name};
use serde_json::{json, value::to_raw_value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Ephemeral, EphemeralError, Markers, RemotePresence, Said, Thread};
use crate::{
    account::Accounts,
    history::History,
    keys::SigningKey,
    limits::{PRESENCE_ACTIVE_MS, PRESENCE_GONE_MS, PRESENCE_IDLE_MS, PRESENCE_TOLD_EVERY_MS},
    log::Log,
    peer::{Isolated, Peers, Settings},
    room::{Message, NewRoom, Profile, Profiles, Rooms},
    store::{BoxFuture, Db, StoreError, memory::Memory},
    types::{Fact, Lane, ManualClock, Ports, Position, SeededRng},
};

struct Nameless;

impl Profiles for Nameless {
    fn profile<'a>(&'a self, _: &'a ruma::UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async { Ok(Profile::default()) })
    }
}

struct World {
    rooms: Rooms,
    log: Log,
    clock: Arc<ManualClock>,
    ports: Ports,
    ephemeral: Ephemeral,
    room: OwnedRoomId,
}

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:a.org")).unwrap()
}

impl World {
    /// A room of alice's with bob in it.
    async fn new(has_presence: bool) -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)) };
        let tasks = TaskTracker::new();
        let log = Log::open(Db::new(Arc::new(Memory::new())), &tasks).await.unwrap();
        let server = server_name!("a.org").to_owned();
        let history = History::open(log.clone(), ports.clone(), server.clone()).await.unwrap();
        let accounts = Accounts::new(log.clone(), ports.clone(), server.clone(), Default::default());
        let key = Arc::new(SigningKey::from_seed(server, "k", [1; 32]).unwrap());
        let peers = Peers::new(Arc::new(Isolated), log.clone(), ports.clone(), key, Settings::default());
        let rooms = Rooms::new(history.clone(), peers, ports.clone(), Arc::new(Nameless), tasks.clone());
        let stopping = CancellationToken::new();
        let ephemeral = Ephemeral::new(history, accounts, ports.clone(), has_presence, (&tasks, stopping));
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        let room = rooms.create(&user("alice"), room).await.unwrap();
        rooms.join(&user("bob"), &room, None, serde_json::Map::new()).await.unwrap();
        Self { rooms, log, clock, ports, ephemeral, room }
    }

    async fn say(&self, thread: Option<&OwnedEventId>) -> OwnedEventId {
        let mut content = json!({"msgtype": "m.text", "body": "x"});
        if let Some(root) = thread {
            content["m.relates_to"] = json!({"rel_type": "m.thread", "event_id": root});
        }
        let content = to_raw_value(&content).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        self.rooms.send(&user("alice"), &self.room, message).await.unwrap()
    }

    async fn facts(&self) -> Vec<Fact> {
        let lane = Lane::Room(self.room.clone());
        let facts = self.log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap();
        facts.into_iter().map(|(_, fact)| fact).collect()
    }

    async fn typing(&self) -> Vec<OwnedUserId> {
        let facts = self.facts().await;
        let typing = facts.into_iter().find_map(|fact| match fact {
            Fact::Typing { user_ids } => Some(user_ids),
            _ => None,
        });
        typing.unwrap_or_default()
    }

    async fn read(&self, name: &str, event: &OwnedEventId, thread: Thread) -> &'static str {
        let markers = Markers { read: Some(event.clone()), thread, ..Markers::default() };
        match self.ephemeral.set_markers(&self.room, &user(name), &markers).await {
            Ok(()) => "ok",
            Err(EphemeralError::NotJoined) => "not joined",
            Err(EphemeralError::Invalid(_)) => "invalid",
            Err(EphemeralError::NotFound(_)) => "not found",
            Err(_) => "error",
        }
    }

    async fn receipts(&self) -> Vec<(OwnedUserId, Option<String>, OwnedEventId)> {
        let facts = self.facts().await.into_iter();
        let receipts = facts.filter_map(|fact| match fact {
            Fact::Receipt { user_id, thread_id, event_id, .. } => Some((user_id, thread_id, event_id)),
            _ => None,
        });
        receipts.collect()
    }
}

#[tokio::test]
async fn typing_lasts_its_time() {
    let world = World::new(false).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let set = |who: OwnedUserId, typing| {
        let (ephemeral, room) = (world.ephemeral.clone(), world.room.clone());
        async move { ephemeral.set_typing(&room, &who, typing).await }
    };
    set(alice.clone(), Some(Some(10_000))).await.unwrap();
    set(bob.clone(), Some(None)).await.unwrap();
    assert_eq!(world.typing().await, [alice.clone(), bob.clone()]);
    world.clock.advance(Duration::from_secs(11));
    world.ephemeral.expire().await.unwrap();
    assert_eq!(world.typing().await, std::slice::from_ref(&bob));
    set(bob.clone(), None).await.unwrap();
    assert!(world.typing().await.is_empty());
    let stranger = set(user("eve"), Some(None)).await;
    assert!(matches!(stranger, Err(EphemeralError::NotJoined)));
}

#[tokio::test]
async fn receipts_move_forward_only_and_know_threads() {
    let world = World::new(false).await;
    let root = world.say(None).await;
    let reply = world.say(Some(&root)).await;
    let last = world.say(None).await;
    let in_thread = || Thread::Root(root.clone());
    for (name, event, thread, expected) in [
        ("eve", &root, Thread::Unthreaded, "not joined"),
        ("bob", &last, Thread::Unthreaded, "ok"),
        ("bob", &root, Thread::Unthreaded, "ok"),
        ("bob", &reply, Thread::Main, "invalid"),
        ("bob", &last, in_thread(), "invalid"),
        ("bob", &root, in_thread(), "ok"),
        ("bob", &reply, in_thread(), "ok"),
        ("bob", &root, Thread::Main, "ok"),
        ("bob", &OwnedEventId::try_from("$nothing").unwrap(), Thread::Unthreaded, "not found"),
    ] {
        assert_eq!(world.read(name, event, thread.clone()).await, expected, "{event} {thread:?}");
    }
    let bob = user("bob");
    let expected = [
        (bob.clone(), None, last),
        (bob.clone(), Some(root.to_string()), reply),
        (bob, Some(String::from("main")), root),
    ];
    assert_eq!(world.receipts().await, expected);
}

#[tokio::test]
async fn presence_follows_devices_and_activity() {
    let world = World::new(true).await;
    let (bob, phone) = (user("bob"), ruma::device_id!("PHONE"));
    let now = || {
        let seen = world.ephemeral.presence(&bob);
        (seen.presence, seen.currently_active)
    };
    assert_eq!(now(), (Said::Offline, false));
    world.ephemeral.note_sync(&bob, phone, Said::Online, 0).await.unwrap();
    assert_eq!(now(), (Said::Online, true));
    let mut waited = 0;
    while waited < PRESENCE_IDLE_MS {
        world.clock.advance(Duration::from_millis(PRESENCE_GONE_MS - 1));
        waited += PRESENCE_GONE_MS - 1;
        world.ephemeral.expire().await.unwrap();
        world.ephemeral.note_sync(&bob, phone, Said::Online, 0).await.unwrap();
        if (PRESENCE_ACTIVE_MS..PRESENCE_IDLE_MS).contains(&waited) {
            assert_eq!(now(), (Said::Online, false));
        }
    }
    assert_eq!(now(), (Said::Unavailable, false));
    world.ephemeral.note_activity(&bob).await.unwrap();
    assert_eq!(now(), (Said::Online, true));
    world.clock.advance(Duration::from_millis(PRESENCE_GONE_MS));
    let before = world.log.head();
    world.ephemeral.expire().await.unwrap();
    assert_eq!(now(), (Said::Offline, false));
    assert!(world.log.head() > before, "others are told");
    assert_eq!(world.ephemeral.presence_for(&user("alice"), &bob).await.unwrap().presence, Said::Offline);
    let stranger = world.ephemeral.presence_for(&user("eve"), &bob).await;
    assert!(matches!(stranger, Err(EphemeralError::Forbidden(_))));
}

/// Other servers take a user for gone of whom they do not hear for half an hour.
#[tokio::test]
async fn whoever_is_there_for_long_is_told_of_now_and_then() {
    let world = World::new(true).await;
    let carol: OwnedUserId = "@carol:b.org".try_into().unwrap();
    let (bob, phone) = (user("bob"), ruma::device_id!("PHONE"));
    let unavailable = Said::Unavailable;
    let said = RemotePresence { said: unavailable, last_active_ago: PRESENCE_IDLE_MS, status_msg: None };
    world.ephemeral.receive_presence(&carol, said).await.unwrap();
    let told = async |user_id: &OwnedUserId| {
        let told = world.log.registers(&Lane::People, Position::ZERO, Position::MAX).await.unwrap();
        let of_user = |fact: &Fact| matches!(fact, Fact::Presence { user_id: of, .. } if of == user_id);
        told.into_iter().find(|(_, fact)| of_user(fact)).map(|(at, _)| at)
    };
    let (mut last, mut times) = (told(&bob).await, 0);
    let of_carol = told(&carol).await;
    for _ in 0..PRESENCE_TOLD_EVERY_MS / (PRESENCE_GONE_MS - 1) + 3 {
        world.ephemeral.note_sync(&bob, phone, unavailable, 0).await.unwrap();
        world.ephemeral.expire().await.unwrap();
        let now = told(&bob).await;
        times += usize::from(now != last);
        last = now;
        world.clock.advance(Duration::from_millis(PRESENCE_GONE_MS - 1));
    }
    assert_eq!(times, 2, "when he came, and once more");
    assert_eq!(told(&carol).await, of_carol, "her own server tells of her");
}

#[tokio::test]
async fn presence_can_be_switched_off() {
    let world = World::new(false).await;
    let before = world.log.head();
    let (bob, phone) = (user("bob"), ruma::device_id!("PHONE"));
    world.ephemeral.note_sync(&bob, phone, Said::Online, 0).await.unwrap();
    world.ephemeral.set_presence(&bob, phone, Said::Online, Some("hello".into())).await.unwrap();
    assert_eq!(world.log.head(), before);
    assert_eq!(world.ephemeral.presence(&bob).presence, Said::Offline);
}

#[tokio::test]
async fn what_users_say_of_themselves_outlives_the_process() {
    let world = World::new(true).await;
    let (alice, bob, phone) = (user("alice"), user("bob"), ruma::device_id!("PHONE"));
    world.ephemeral.set_presence(&bob, phone, Said::Online, Some("away".into())).await.unwrap();
    world.clock.advance(Duration::from_millis(PRESENCE_GONE_MS * 2));
    world.ephemeral.expire().await.unwrap();
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let accounts = Accounts::new(
        world.log.clone(),
        world.ports.clone(),
        server_name!("a.org").to_owned(),
        Default::default(),
    );
    let history = world.rooms.history().clone();
    let again = Ephemeral::new(history, accounts, world.ports.clone(), true, (&tasks, stopping));
    let seen = again.presence_for(&alice, &bob).await.unwrap();
    let expected = super::Seen {
        presence: Said::Offline,
        currently_active: false,
        last_active_ago: Some(PRESENCE_GONE_MS * 2),
        status_msg: Some("away".into()),
    };
    assert_eq!(seen, expected);
    // Coming back without a word leaves what was said.
    again.note_sync(&bob, phone, Said::Online, 0).await.unwrap();
    let seen = again.presence_for(&alice, &bob).await.unwrap();
    assert_eq!((seen.presence, seen.status_msg.as_deref()), (Said::Online, Some("away")));
}
