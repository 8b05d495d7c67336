//! What is damaged, fails, or comes in between holds up nothing else: push, the search, and what is removed for good.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, poll, stream};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, user_id};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    account::Registration,
    config::Config,
    history::tables::MEDIA_LET_GO,
    http::{
        client::testing::Server,
        tests::{services_at, services_over},
    },
    limits::RETENTION_PAGE_EVENTS,
    log::{Commit, PageLimits},
    media::Offered,
    purge::RemovalStatus,
    room::Message,
    store::{
        Batch, BoxFuture, Committed, Db, Key, Row, Scan, Store, StoreError, memory::Memory, table::TableId,
    },
    types::{Cursor, ManualClock, Membership, Position, Reader},
};

const NOW_MS: u64 = 1_700_000_000_000;

async fn room(server: &Server, token: &str) -> OwnedRoomId {
    let created = server.met(token, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    OwnedRoomId::try_from(created["room_id"].as_str().unwrap()).unwrap()
}

async fn say(server: &Server, token: &str, room: &RoomId, content: Value) -> String {
    let txn = server.app().log.head();
    let path = format!("PUT /rooms/{room}/send/m.room.message/{txn}");
    let said = server.met(token, &path, content).await;
    said["event_id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

fn config(folder: &Path) -> Config {
    let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
    config.retention.enabled = true;
    config
}

async fn make_admin(server: &Server) {
    server.app().accounts.change_user(user_id!("@alice:localhost"), |user| user.admin = true).await.unwrap();
}

/// One message is damaged, and in another room its power levels.
#[tokio::test]
async fn one_damaged_event_holds_up_neither_push_nor_the_search_nor_a_removal() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW_MS)));
    let services = services_at(config(folder.path()), clock.clone()).await;
    let server = Server::over(services, Registration::Open);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    make_admin(&server).await;
    let (sick, odd) = (room(&server, &alice).await, room(&server, &alice).await);
    for room in [&sick, &odd] {
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    }
    let from = server.app().log.head();
    let before = say(&server, &alice, &sick, text("wordy")).await;
    let hurt = say(&server, &alice, &sick, text("wordy")).await;
    let after = say(&server, &alice, &sick, text("wordy")).await;
    let elsewhere = say(&server, &alice, &odd, text("wordy")).await;
    let levels = format!("GET /rooms/{odd}/state/m.room.power_levels?format=event");
    let levels = server.met(&alice, &levels, Value::Null).await["event_id"].as_str().unwrap().to_owned();
    let mut commit = Commit::new();
    for id in [&hurt, &levels] {
        let id = OwnedEventId::try_from(id.as_str()).unwrap();
        commit.put_raw(Key::new(TableId::Event, &(id,)), b"rubbish".to_vec());
    }
    server.app().log.commit(commit).await.unwrap();
    // Another run, which remembers nothing.
    let app = server.app();
    app.stopping.cancel();
    app.log.close();
    app.tasks.close();
    let (db, folder) = (app.log.db().clone(), tempfile::tempdir().unwrap());
    let services = services_over(config(folder.path()), clock.clone(), db).await;
    let server = Server::over(services, Registration::Open);
    let (app, head) = (server.app(), server.app().log.head());
    let user = user_id!("@bob:localhost");
    assert_eq!(app.push.badge(user, head).await.unwrap(), 3);
    let limits = PageLimits { append: 100, queue: 0, before_opening: false, backlog: usize::MAX };
    let page = app.log.page(&Reader::Pusher(user.to_owned()), Cursor::at(from), &limits).await.unwrap();
    let notices = app.push.notices(user, &page).await.unwrap();
    let told: Vec<&str> = notices.iter().map(|notice| notice.event.pdu.event_id().as_str()).collect();
    assert_eq!(told, [&before, &after, &elsewhere]);
    let listed = server.met(&bob, "GET /notifications", Value::Null).await["notifications"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    let search = json!({ "search_categories": { "room_events": { "search_term": "wordy" } } });
    let found = server.met(&bob, "POST /search", search).await;
    assert_eq!(found["search_categories"]["room_events"]["count"], 3, "{found}");
    app.purge.tend().await.unwrap();
    let delete = format!("DELETE /_synapse/admin/v2/rooms/{sick}");
    server.met(&alice, &delete, json!({ "purge": true })).await;
    app.purge.tend().await.unwrap();
    assert_eq!(app.purge.removal_of(&sick).await.unwrap(), RemovalStatus::Complete);
    assert!(app.history.event(&OwnedEventId::try_from(after).unwrap()).await.unwrap().is_none());
}

/// A store of which one table cannot be looked through, and which counts how often lanes are.
struct Hurt {
    memory: Memory,
    fails: Arc<AtomicU8>,
    lanes: Arc<AtomicUsize>,
}

impl Store for Hurt {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        self.memory.get_many(keys)
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        let is_of = |table: u8| scans.iter().any(|scan| scan.from.0.first() == Some(&table));
        self.lanes.fetch_add(usize::from(is_of(TableId::LaneRow as u8)), Ordering::SeqCst);
        match is_of(self.fails.load(Ordering::SeqCst)) {
            true => Box::pin(async { Err(StoreError::engine("it does not work")) }),
            false => self.memory.scan_many(scans),
        }
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.memory.commit(group)
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.memory.reserve(count)
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.memory.head()
    }

    fn is_exclusive(&self) -> bool {
        self.memory.is_exclusive()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.memory.close()
    }
}

struct Scene {
    server: Server,
    alice: String,
    room: OwnedRoomId,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    fails: Arc<AtomicU8>,
    lanes: Arc<AtomicUsize>,
}

impl Scene {
    async fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW_MS)));
        let (fails, lanes): (Arc<AtomicU8>, Arc<AtomicUsize>) = Default::default();
        let hurt = Hurt { memory: Memory::new(), fails: fails.clone(), lanes: lanes.clone() };
        let mut config = config(folder.path());
        // What indexes messages looks at lanes too.
        config.search.enabled = false;
        let services = services_over(config, clock.clone(), Db::new(Arc::new(hurt))).await;
        let server = Server::over(services, Registration::Open);
        let alice = server.register("alice").await;
        make_admin(&server).await;
        server.app().purge.begin().await.unwrap();
        clock.advance(Duration::from_secs(1));
        let room = room(&server, &alice).await;
        Self { server, alice, room, folder, clock, fails, lanes }
    }

    /// A message with a file of its own, and where the bytes of that are.
    async fn show(&self, byte: u8) -> (String, PathBuf) {
        let known = files(self.folder.path());
        let offered = Offered { content_type: None, filename: None, size: None };
        let body = stream::once(async move { Ok(Bytes::from(vec![byte; 9])) }).boxed();
        let media = &self.server.app().media;
        let uri = media.upload(user_id!("@alice:localhost"), offered, body).await.unwrap();
        let content = json!({ "msgtype": "m.file", "body": "x", "url": uri });
        let said = say(&self.server, &self.alice, &self.room, content).await;
        let new = files(self.folder.path()).into_iter().find(|file| !known.contains(file));
        (said, new.unwrap())
    }

    async fn redact(&self, event: &str) {
        let path = format!("PUT /rooms/{}/redact/{event}/r{event}", self.room);
        let answer = self.server.met(&self.alice, &path, json!({})).await;
        assert!(answer.is_object(), "{answer}");
    }

    /// A message for which nobody counts how many there are.
    async fn tell(&self) -> String {
        let content = to_raw_value(&text("x")).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        let rooms = &self.server.app().rooms;
        rooms.send(user_id!("@alice:localhost"), &self.room, message).await.unwrap().to_string()
    }

    /// How often lanes are looked into while everything is tended.
    async fn looks(&self) -> usize {
        self.lanes.store(0, Ordering::SeqCst);
        self.server.app().purge.tend().await.unwrap();
        self.lanes.load(Ordering::SeqCst)
    }

    async fn is_gone(&self, event: &str) -> bool {
        let event = OwnedEventId::try_from(event).unwrap();
        self.server.app().history.event(&event).await.unwrap().is_none_or(|event| event.is_expired())
    }
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_holds_up_no_other() {
    let scene = Scene::new().await;
    let mut shown = Vec::new();
    for byte in 1..4 {
        shown.push(scene.show(byte).await);
    }
    // The first that is met.
    shown.sort_by(|a, b| a.1.cmp(&b.1));
    let stuck = shown[0].1.clone();
    std::fs::remove_file(&stuck).unwrap();
    std::fs::create_dir(&stuck).unwrap();
    std::fs::write(stuck.join("x"), b"x").unwrap();
    for (event, _) in &shown {
        scene.redact(event).await;
    }
    let purge = &scene.server.app().purge;
    purge.tend().await.unwrap_err();
    assert_eq!(files(scene.folder.path()), [stuck.join("x")]);
    let db = scene.server.app().log.db();
    assert_eq!(db.range(&MEDIA_LET_GO, &(), 9).await.unwrap(), []);
    std::fs::remove_dir_all(&stuck).unwrap();
    scene.server.app().media.empty_bin().await.unwrap();
    purge.tend().await.unwrap();
}

#[tokio::test]
async fn a_step_that_fails_holds_up_no_other() {
    let scene = Scene::new().await;
    let (purge, (event, _)) = (&scene.server.app().purge, scene.show(1).await);
    scene.redact(&event).await;
    let gone = room(&scene.server, &scene.alice).await;
    let delete = format!("DELETE /_synapse/admin/v2/rooms/{gone}");
    scene.server.met(&scene.alice, &delete, json!({ "purge": true })).await;
    scene.fails.store(TableId::Event as u8, Ordering::SeqCst);
    // Its events cannot be read, and the weekly look fails for the same reason.
    drop(purge.tend().await);
    let status = purge.removal_of(&gone).await.unwrap();
    assert!(matches!(status, RemovalStatus::Active { error: Some(_), .. }), "{status:?}");
    // The server looks by itself too when a room is to go, and may have begun with the file.
    let going = async {
        while !files(scene.folder.path()).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), going).await.expect("the file is still there");
    scene.fails.store(0, Ordering::SeqCst);
    purge.tend().await.unwrap();
    assert_eq!(purge.removal_of(&gone).await.unwrap(), RemovalStatus::Complete);
}

/// Whoever looks for messages that are over leaves a room alone as long as none can be.
#[tokio::test]
async fn a_room_rests_until_something_in_it_is_over() {
    let scene = Scene::new().await;
    let (server, room, clock) = (&scene.server, &scene.room, &scene.clock);
    let lives = async |seconds: u64| {
        let path = format!("PUT /rooms/{room}/state/m.room.retention");
        let answer = server.met(&scene.alice, &path, json!({ "max_lifetime": seconds * 1_000 })).await;
        assert!(answer.is_object(), "{answer}");
    };
    lives(1_000).await;
    let mut old = String::new();
    for number in 0..3 * RETENTION_PAGE_EVENTS {
        let said = scene.tell().await;
        old = if number == 0 { said } else { old };
    }
    assert!(scene.looks().await > 0);
    scene.looks().await;
    assert_eq!(scene.looks().await, 0, "all of it is younger");
    clock.advance(Duration::from_secs(500));
    assert_eq!(scene.looks().await, 0, "still");
    let new = scene.tell().await;
    assert!(scene.looks().await > 0, "what is new is looked at");
    assert_eq!(scene.looks().await, 0);
    // As from a server whose clock is behind.
    clock.set(NOW_MS - 600_000);
    let behind = scene.tell().await;
    clock.set(NOW_MS + 502_000);
    scene.looks().await;
    assert!(scene.is_gone(&behind).await && !scene.is_gone(&old).await);
    assert_eq!(scene.looks().await, 0);
    lives(100).await;
    scene.looks().await;
    assert!(scene.is_gone(&old).await, "by another policy it is over");
    assert!(!scene.is_gone(&new).await);
    scene.looks().await;
    assert_eq!(scene.looks().await, 0);
    clock.advance(Duration::from_secs(100));
    scene.looks().await;
    assert!(scene.is_gone(&new).await, "its time has come");
}

/// While the rooms are left, a device of the user comes into another.
#[tokio::test]
async fn who_comes_into_a_room_while_the_account_ends_is_out_of_it_too() {
    let scene = Scene::new().await;
    let (app, user) = (scene.server.app(), user_id!("@bob:localhost"));
    let bob = scene.server.register("bob").await;
    let late = room(&scene.server, &scene.alice).await;
    scene.server.met(&bob, &format!("POST /join/{}", scene.room), json!({})).await;
    let is_in =
        async |room: &RoomId| app.history.membership(room, user).await.unwrap() == Some(Membership::Join);
    let mut ending = Box::pin(app.purge.end_account(user, true));
    while is_in(&scene.room).await {
        assert!(poll!(&mut ending).is_pending());
        tokio::task::yield_now().await;
    }
    let joined = scene.server.met(&bob, &format!("POST /join/{late}"), json!({})).await;
    assert!(joined.is_object() && is_in(&late).await, "{joined}");
    ending.await.unwrap();
    assert!(!is_in(&late).await && !is_in(&scene.room).await);
}
