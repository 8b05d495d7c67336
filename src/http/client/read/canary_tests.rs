//! A text that is gone is gone everywhere: in the store, in the search, in files and their thumbnails.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use image::{ImageFormat, RgbImage};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, user_id};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use crate::{
    account::{Identity, Registration},
    config::Config,
    history::tables::{BACKFILLED, MEDIA_LET_GO, MEDIA_USES, PastRow, RETAINED_PAST},
    http::{client::testing::Server, tests::services_at},
    limits::{RETENTION_PAGE_EVENTS, RETENTION_PAGES_AHEAD, SCAN_ROWS_MAX},
    log::{Commit, Log},
    media::Offered,
    room::Message,
    store::{
        Key, Scan,
        table::{Rows, TableId},
    },
    types::{Lane, ManualClock, Position},
};

mod rooms;

const CANARY: &str = "tweetytweety";

struct Scene {
    server: Server,
    alice: String,
    admin: String,
    room: String,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.retention.enabled = true;
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let server = Server::over(services_at(config, clock.clone()).await, Registration::Open);
        let (alice, admin) = (server.register("alice").await, server.register("root").await);
        let root = ruma::user_id!("@root:localhost");
        server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
        server.app().purge.begin().await.unwrap();
        clock.advance(Duration::from_secs(1));
        let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.met(&admin, &format!("POST /join/{room}"), json!({})).await;
        Self { server, alice, admin, room, folder, clock }
    }

    /// Says the canary, with a picture that was looked at in small; the event's id.
    async fn sing(&self) -> String {
        let mut png = std::io::Cursor::new(Vec::new());
        RgbImage::new(200, 200).write_to(&mut png, ImageFormat::Png).unwrap();
        let bytes = png.into_inner();
        let alice = ruma::user_id!("@alice:localhost");
        let offered =
            Offered { content_type: Some("image/png".into()), filename: Some(CANARY.into()), size: None };
        let body = stream::once(async move { Ok(Bytes::from(bytes)) }).boxed();
        let uri = self.server.app().media.upload(alice, offered, body).await.unwrap();
        let id = uri.media_id().unwrap().to_owned();
        let path =
            format!("/_matrix/client/v1/media/thumbnail/localhost/{id}?width=32&height=32&method=crop");
        let status = self.server.status(&self.alice, &format!("GET {path}")).await;
        assert_eq!(status, 200);
        let content = json!({ "msgtype": "m.image", "body": CANARY, "url": format!("mxc://localhost/{id}") });
        let path = format!("PUT /rooms/{}/send/m.room.message/1", self.room);
        let said = self.server.met(&self.alice, &path, content).await;
        assert_eq!(self.found().await, 1);
        assert!(files(self.folder.path()) >= 2, "the picture and its thumbnail");
        assert!(self.is_stored().await);
        said["event_id"].as_str().unwrap().to_owned()
    }

    async fn found(&self) -> u64 {
        let body = json!({ "search_categories": { "room_events": { "search_term": CANARY } } });
        let found = self.server.met(&self.admin, "POST /search", body).await;
        found["search_categories"]["room_events"]["count"].as_u64().unwrap_or_else(|| panic!("{found}"))
    }

    /// Whether any row of the store has the canary in it.
    async fn is_stored(&self) -> bool {
        let db = self.server.app().log.db().clone();
        let has = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        let (mut from, to) = (Key(vec![0]), Key(vec![0xFF]));
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: 1_000 };
            let rows = db.scan_many(&[scan]).await.unwrap().pop().unwrap();
            let Some((last, _)) = rows.last() else { return false };
            from = last.successor();
            if rows.iter().any(|(key, value)| has(&key.0) || has(value)) {
                return true;
            }
        }
    }

    /// Whether a table has rows.
    async fn has_rows(&self, table: TableId) -> bool {
        let from = Key::new(table, &());
        let scan = Scan { from: from.clone(), to: from.after_prefix(), reverse: false, limit: 1 };
        !self.server.app().log.db().scan_many(&[scan]).await.unwrap().concat().is_empty()
    }

    async fn check_gone(&self) {
        self.server.app().purge.tend().await.unwrap();
        assert!(!self.is_stored().await, "the store has it");
        assert_eq!(self.found().await, 0, "the search finds it");
        assert_eq!(files(self.folder.path()), 0, "there are files");
    }
}

/// Files of media below a folder.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => files(&entry.path()),
        false => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}

#[tokio::test]
async fn row_7_16_redaction_takes_text_and_files() {
    let scene = Scene::new().await;
    let event = scene.sing().await;
    let path = format!("PUT /rooms/{}/redact/{event}/2", scene.room);
    scene.server.met(&scene.alice, &path, json!({})).await;
    scene.check_gone().await;
}

/// Row 7.16 of the list of known vulnerabilities (CVE-2024-6300): what was redacted is told by nothing that is told with
/// other events either: as what stood in a place before, as an edit, as the newest of a thread, as what a thread began
/// with.
#[tokio::test]
async fn row_7_16_cve_2024_6300_a_redacted_text_is_told_with_no_other_event() {
    let scene = Scene::new().await;
    let (server, alice, room) = (&scene.server, &scene.alice, &scene.room);
    let text = |body: &str| json!({ "msgtype": "m.text", "body": body });
    let related = |kind: &str, id: &str, body: &str| {
        let mut content = text(body);
        content["m.relates_to"] = json!({ "rel_type": kind, "event_id": id });
        if kind == "m.replace" {
            content["m.new_content"] = text(body);
        }
        content
    };
    let txn = std::cell::Cell::new(0);
    let put = async |path: &str, content: Value| {
        let answer = server.met(alice, &format!("PUT /rooms/{room}/{path}"), content).await;
        answer["event_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let say = async |content: Value| {
        txn.set(txn.get() + 1);
        put(&format!("send/m.room.message/{}", txn.get()), content).await
    };
    let edited = say(text("first")).await;
    let edit = say(related("m.replace", &edited, CANARY)).await;
    let root = say(text(CANARY)).await;
    let reply = say(related("m.thread", &root, CANARY)).await;
    let last = say(related("m.thread", &root, "last")).await;
    let topic = put("state/m.room.topic", json!({ "topic": CANARY })).await;
    put("state/m.room.topic", json!({ "topic": "plain" })).await;
    let name = put("state/m.room.name", json!({ "name": CANARY })).await;
    assert!(scene.is_stored().await);
    for (number, event) in [&edit, &root, &reply, &topic, &name].into_iter().enumerate() {
        server.met(alice, &format!("PUT /rooms/{room}/redact/{event}/r{number}"), json!({})).await;
    }
    let search = json!({ "search_categories": { "room_events": { "search_term": CANARY } } });
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 50, "required_state": [["*", "*"]] });
    let mut asked = vec![
        (String::from("POST /search"), search),
        (String::from("POST /_matrix/client/v4/sync"), json!({ "lists": { "all": list } })),
        (String::from("POST /publicRooms"), json!({})),
    ];
    for path in [
        String::from("/sync?full_state=true"),
        String::from("/initialSync?limit=50"),
        String::from("/notifications?limit=50"),
        format!("/rooms/{room}/initialSync"),
        format!("/rooms/{room}/messages?dir=b&limit=100"),
        format!("/rooms/{room}/messages?dir=f&limit=100"),
        format!("/rooms/{room}/state"),
        format!("/rooms/{room}/context/{edited}?limit=100"),
        format!("/rooms/{room}/event/{edited}"),
        format!("/rooms/{room}/event/{edit}"),
        format!("/rooms/{room}/event/{root}"),
        format!("/rooms/{room}/event/{last}"),
        format!("/events/{reply}"),
        format!("/events?from=s1&room_id={room}"),
        format!("/_matrix/client/v1/rooms/{room}/threads"),
        format!("/_matrix/client/v1/rooms/{room}/relations/{root}"),
        format!("/_matrix/client/v1/rooms/{room}/relations/{edited}/m.replace"),
        format!("/_matrix/client/v1/rooms/{room}/hierarchy"),
        format!("/_matrix/client/v1/room_summary/{room}"),
    ] {
        asked.push((format!("GET {path}"), Value::Null));
    }
    for (request, body) in asked {
        for token in [alice, &scene.admin] {
            let (status, answer) = server.ask(token, &request, body.clone()).await;
            assert_eq!(status, 200, "{request}: {answer}");
            let answer = answer.to_string().replace(&format!("\"search_term\":\"{CANARY}\""), "");
            assert!(!answer.contains(CANARY), "{request}: {answer}");
        }
    }
    scene.check_gone().await;
}

/// Row 7.16 again: what was redacted is told no more to whoever is invited to the room or knocks, from before that.
#[tokio::test]
async fn row_7_16_a_redacted_text_is_told_in_no_invite_and_no_knock() {
    for kind in ["invite", "knock"] {
        let scene = Scene::new().await;
        let server = &scene.server;
        let (carol, bob) = (server.register("carol").await, server.register("bob").await);
        let name = "PUT /profile/@carol:localhost/displayname";
        server.met(&carol, name, json!({ "displayname": CANARY })).await;
        let rules =
            json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
        let new =
            json!({ "preset": "private_chat", "name": CANARY, "topic": CANARY, "initial_state": [rules] });
        let room = server.met(&carol, "POST /createRoom", new).await["room_id"].as_str().unwrap().to_owned();
        let (by, request, mut body) = match kind {
            "invite" => {
                (&carol, format!("POST /rooms/{room}/invite"), json!({ "user_id": "@bob:localhost" }))
            }
            _ => (&bob, format!("POST /knock/{room}"), json!({})),
        };
        body["reason"] = CANARY.into();
        let answer = server.met(by, &request, body).await;
        assert!(answer.is_object(), "{answer}");
        let told = async || {
            let sync = server.met(&bob, "GET /sync", Value::Null).await["rooms"][kind][&room].to_string();
            let list = json!({ "ranges": [[0, 9]], "timeline_limit": 9, "required_state": [["*", "*"]] });
            let body = json!({ "lists": { "all": list } });
            let slid = server.met(&bob, "POST /_matrix/client/v4/sync", body).await;
            format!("{sync} {}", slid["rooms"][&room])
        };
        let before = told().await;
        assert!(before.matches(CANARY).count() >= 3, "{kind}: {before}");
        let places = ["m.room.name", "m.room.topic", "m.room.member/@carol:localhost"];
        let mut events = Vec::new();
        for place in places.into_iter().chain(["m.room.member/@bob:localhost"]) {
            let state = format!("GET /rooms/{room}/state/{place}?format=event");
            events
                .push(server.met(&carol, &state, Value::Null).await["event_id"].as_str().unwrap().to_owned());
        }
        // What she is called otherwise is no matter of the room.
        server.met(&carol, name, json!({ "displayname": "plain" })).await;
        assert!(scene.is_stored().await);
        for (number, event) in events.iter().enumerate() {
            let redact = format!("PUT /rooms/{room}/redact/{event}/r{number}");
            let answer = server.met(&carol, &redact, json!({})).await;
            assert!(answer.is_object(), "{answer}");
        }
        let after = told().await;
        assert!(!after.contains(CANARY) && after.contains("@bob:localhost"), "{kind}: {after}");
        scene.check_gone().await;
        let accept = match kind {
            "invite" => (&bob, format!("POST /join/{room}"), json!({})),
            _ => (&carol, format!("POST /rooms/{room}/invite"), json!({ "user_id": "@bob:localhost" })),
        };
        let answer = server.met(accept.0, &accept.1, accept.2).await;
        assert!(answer.is_object(), "{kind}: it still stands: {answer}");
    }
}

#[tokio::test]
async fn retention_takes_text_and_files_and_leaves_the_rest() {
    let scene = Scene::new().await;
    let event = scene.sing().await;
    let path = format!("PUT /rooms/{}/state/m.room.retention", scene.room);
    scene.server.met(&scene.alice, &path, json!({ "max_lifetime": 60_000 })).await;
    scene.server.app().purge.tend().await.unwrap();
    assert!(scene.is_stored().await, "its time is not over");
    scene.clock.advance(Duration::from_secs(61));
    let path = format!("PUT /rooms/{}/send/m.room.message/3", scene.room);
    scene.server.met(&scene.alice, &path, json!({ "msgtype": "m.text", "body": "young" })).await;
    scene.check_gone().await;
    let shown = format!("GET /rooms/{}/event/{event}", scene.room);
    scene.server.check(&scene.alice, &shown, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let page = scene
        .server
        .met(&scene.alice, &format!("GET /rooms/{}/messages?dir=b", scene.room), Value::Null)
        .await;
    assert_eq!(page["chunk"][0]["content"]["body"], "young");
    let path = format!("PUT /rooms/{}/send/m.room.message/4", scene.room);
    assert!(scene.server.met(&scene.alice, &path, json!({ "body": "x" })).await["event_id"].is_string());
}

#[tokio::test]
async fn erasure_takes_text_and_files_from_everybody() {
    let scene = Scene::new().await;
    scene.sing().await;
    let name = json!({ "displayname": CANARY });
    scene.server.met(&scene.alice, "PUT /profile/@alice:localhost/displayname", name).await;
    let erase = "POST /_lockstep/admin/v1/users/@alice:localhost/erase";
    scene.server.check(&scene.alice, erase, (json!({}), json!("403 M_FORBIDDEN"))).await;
    let told = scene.server.met(&scene.admin, erase, json!({})).await;
    assert!(told["events"].as_u64().unwrap() >= 2, "{told}");
    scene.check_gone().await;
    let again = scene.server.met(&scene.admin, erase, json!({})).await;
    assert_eq!(again, json!({ "events": 0 }), "there is nothing left to take");
    let path = format!("PUT /rooms/{}/send/m.room.message/5", scene.room);
    assert!(scene.server.met(&scene.admin, &path, json!({ "body": "x" })).await["event_id"].is_string());
}

/// Events from before the server was there are not looked at again until one of them is over, or there are more.
#[tokio::test]
async fn the_past_is_looked_at_when_something_is_over() {
    let scene = Scene::new().await;
    let event = scene.sing().await;
    let path = format!("PUT /rooms/{}/state/m.room.retention", scene.room);
    scene.server.met(&scene.alice, &path, json!({ "max_lifetime": 60_000 })).await;
    let (log, room) = (scene.server.app().log.clone(), OwnedRoomId::try_from(scene.room.as_str()).unwrap());
    let mut commit = Commit::new();
    let id = OwnedEventId::try_from(event.as_str()).unwrap();
    commit.put(&BACKFILLED, &(room.clone(), Position(1), 1), &id);
    log.commit(commit).await.unwrap();
    let known = async || {
        scene.server.app().purge.tend().await.unwrap();
        log.db().row(&RETAINED_PAST, &(room.clone(),)).await.unwrap().unwrap()
    };
    let first = known().await;
    assert_eq!((first.whole, first.oldest_ms), (true, 1_700_000_001_000));
    let mut commit = Commit::new();
    // Were it looked at again, this would be found out.
    commit.put(&RETAINED_PAST, &(room.clone(),), &PastRow { whole: true, oldest_ms: 1_700_000_002_000 });
    log.commit(commit).await.unwrap();
    assert_eq!(known().await.oldest_ms, 1_700_000_002_000, "it is believed");
    scene.clock.advance(Duration::from_secs(62));
    assert_eq!(known().await.oldest_ms, u64::MAX, "there is nothing left");
    assert!(!scene.is_stored().await);
}

/// However much was filled in of a room's past, what an erased user has said in it goes.
#[tokio::test]
async fn erasure_reaches_the_end_of_the_past() {
    let scene = Scene::new().await;
    let event = scene.sing().await;
    let (log, room) = (scene.server.app().log.clone(), OwnedRoomId::try_from(scene.room.as_str()).unwrap());
    let mut commit = Commit::new();
    // As if all of it had come later.
    for (from, to) in Log::lane_rows(&Lane::Room(room.clone())) {
        commit.delete_range(from, to);
    }
    for number in 1..=SCAN_ROWS_MAX as u64 {
        let id = OwnedEventId::try_from(format!("$nothing{number}")).unwrap();
        commit.put(&BACKFILLED, &(room.clone(), Position(1), number), &id);
    }
    let id = OwnedEventId::try_from(event.as_str()).unwrap();
    commit.put(&BACKFILLED, &(room.clone(), Position(2), 1), &id);
    log.commit(commit).await.unwrap();
    let erase = "POST /_lockstep/admin/v1/users/@alice:localhost/erase";
    scene.server.met(&scene.admin, erase, json!({})).await;
    assert!(!scene.is_stored().await);
}

/// However many messages claim to be sent later than they were, what comes behind them is over when it is.
#[tokio::test]
async fn retention_goes_on_behind_what_is_dated_ahead() {
    let scene = Scene::new().await;
    let (server, room) = (&scene.server, &scene.room);
    let path = format!("PUT /rooms/{room}/state/m.room.retention");
    server.met(&scene.alice, &path, json!({ "max_lifetime": 60_000 })).await;
    let (alice, id) = (ruma::user_id!("@alice:localhost"), OwnedRoomId::try_from(room.as_str()).unwrap());
    let mut ahead = Vec::new();
    for number in 0..RETENTION_PAGE_EVENTS * (RETENTION_PAGES_AHEAD + 2) {
        let content = to_raw_value(&json!({ "body": number })).unwrap();
        let message = Message { event_type: "m.room.message".into(), content, txn: None };
        ahead.push(message);
    }
    // A clock that is years ahead, for as long as they are sent.
    let years = Duration::from_secs(100 * 365 * 86_400);
    scene.clock.advance(years);
    for message in ahead {
        server.app().rooms.send(alice, &id, message).await.unwrap();
    }
    scene.clock.set(1_700_000_002_000);
    scene.sing().await;
    scene.clock.advance(Duration::from_secs(61));
    let purge = &server.app().purge;
    for _ in 0..3 {
        assert!(scene.is_stored().await);
        purge.tend().await.unwrap();
        if !scene.is_stored().await {
            return;
        }
    }
    panic!("it is never reached");
}

/// Whatever else has a user's words in it: invites by and to them, what they wanted to be sent later, reports, presence,
/// the identity at a provider, account data, devices.
#[tokio::test]
async fn erasure_takes_what_was_noted_elsewhere() {
    let scene = Scene::new().await;
    let (alice, app) = (ruma::user_id!("@alice:localhost"), scene.server.app().clone());
    let bob = scene.server.register("bob").await;
    let met = async |token: &str, request: &str, body: Value| {
        let (status, answer) = scene.server.ask(token, request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
        answer
    };
    let subject = Identity { provider: "p".to_owned(), subject: CANARY.to_owned() };
    let shown = app.accounts.check_password(alice, "secret").await.unwrap();
    app.accounts.link(&shown, &subject, |_| ()).await.unwrap();
    let name = json!({ "displayname": CANARY });
    met(&scene.alice, "PUT /profile/@alice:localhost/displayname", name).await;
    for (host, guest) in [(&scene.admin, "@alice:localhost"), (&scene.alice, "@bob:localhost")] {
        let private = met(host, "POST /createRoom", json!({ "preset": "private_chat" })).await;
        let invite = format!("POST /rooms/{}/invite", private["room_id"].as_str().unwrap());
        met(host, &invite, json!({ "user_id": guest })).await;
    }
    let invites = met(&bob, "GET /sync", Value::Null).await["rooms"]["invite"].to_string();
    assert!(invites.contains(CANARY), "{invites}");
    let (room, said) = (&scene.room, json!({ "msgtype": "m.text", "body": CANARY }));
    for (txn, then) in [("waits", None), ("goes", Some("send")), ("ends", Some("cancel"))] {
        let path = format!("PUT /rooms/{room}/send/m.room.message/{txn}?org.matrix.msc4140.delay=9999");
        let id = met(&scene.alice, &path, said.clone()).await["delay_id"].as_str().unwrap().to_owned();
        if let Some(action) = then {
            let path = format!("POST /_matrix/client/v1/delayed_events/{id}/{action}");
            met("", &path, json!({})).await;
        }
    }
    for (request, body) in [
        (format!("POST /rooms/{room}/report"), json!({ "reason": CANARY })),
        (
            String::from("PUT /presence/@alice:localhost/status"),
            json!({ "presence": "online", "status_msg": CANARY }),
        ),
        (String::from("PUT /user/@alice:localhost/account_data/m.x"), json!({ "note": CANARY })),
        (format!("PUT /user/@alice:localhost/rooms/{room}/account_data/m.x"), json!({ "note": CANARY })),
        (
            String::from("POST /user/@alice:localhost/filter"),
            json!({ "room": { "timeline": { "types": [CANARY] } } }),
        ),
        (String::from("PUT /devices/PHONE"), json!({ "display_name": CANARY })),
    ] {
        met(&scene.alice, &request, body).await;
    }
    assert!(scene.is_stored().await);
    met(&scene.admin, "POST /_lockstep/admin/v1/users/@alice:localhost/erase", json!({})).await;
    scene.check_gone().await;
    let invites = met(&bob, "GET /sync", Value::Null).await["rooms"]["invite"].to_string();
    assert!(invites.contains("@alice:localhost"), "still invited: {invites}");
    // Whoever is known by that identity may have another account.
    let shown = app.accounts.check_password(ruma::user_id!("@bob:localhost"), "secret").await.unwrap();
    app.accounts.link(&shown, &subject, |_| ()).await.unwrap();
}

#[tokio::test]
async fn files_stay_that_the_account_still_shows() {
    for place in [
        "PUT /user/@alice:localhost/account_data/im.ponies.user_emotes",
        "PUT /user/@alice:localhost/rooms/ROOM/account_data/m.x",
        "PUT /profile/@alice:localhost/org.example.banner",
    ] {
        let scene = Scene::new().await;
        let event = scene.sing().await;
        let shown = format!("GET /rooms/{}/event/{event}", scene.room);
        let url = scene.server.met(&scene.alice, &shown, Value::Null).await["content"]["url"].clone();
        let name = place.rsplit('/').next().unwrap();
        let body = match place.contains("profile") {
            true => json!({ name: url }),
            false => json!({ "images": { "smile": { "url": url } } }),
        };
        let kept = scene.server.met(&scene.alice, &place.replace("ROOM", &scene.room), body).await;
        assert_eq!(kept, json!({}), "{place}");
        let redact = format!("PUT /rooms/{}/redact/{event}/2", scene.room);
        scene.server.met(&scene.alice, &redact, json!({})).await;
        scene.server.app().purge.tend().await.unwrap();
        assert!(files(scene.folder.path()) > 0, "{place}");
    }
}

/// A file of another server goes when nothing is known to show it any more, if whoever took the last of that back may have
/// uploaded it.
#[tokio::test]
async fn files_of_other_servers_go_with_what_their_users_take_back() {
    let scene = Scene::new().await;
    let (log, purge) = (scene.server.app().log.clone(), &scene.server.app().purge);
    // As they are written, byte for byte.
    let media: Rows<(OwnedServerName, String), Box<RawValue>> = Rows::new(TableId::Media);
    let address = (OwnedServerName::try_from("x.org").unwrap(), String::from("id"));
    let hash = "0".repeat(64);
    let item = |more: &str| {
        let stored = format!(r#"{{"hash":"{hash}","size":1,"uploaded_ms":1}}"#);
        let text = format!(r#"{{"kind":"cached","created_ms":1,"seen_ms":1,"stored":{stored}{more}}}"#);
        RawValue::from_string(text).unwrap()
    };
    let (item, quarantined) = (item(""), item(r#","quarantined":true"#));
    let key = (String::from("x.org/id"), OwnedEventId::try_from("$other").unwrap());
    for (item, sender, is_used, stays) in [
        (&item, user_id!("@mallory:localhost"), false, true),
        (&item, user_id!("@bob:x.org"), true, true),
        (&quarantined, user_id!("@bob:x.org"), false, true),
        (&item, user_id!("@bob:x.org"), false, false),
    ] {
        let mut commit = Commit::new();
        commit.put(&media, &address, item);
        commit.put(&MEDIA_LET_GO, &address, &sender.to_owned());
        match is_used {
            true => commit.put(&MEDIA_USES, &key, &()),
            false => commit.delete(&MEDIA_USES, &key),
        }
        log.commit(commit).await.unwrap();
        purge.tend().await.unwrap();
        let row = log.db().row(&media, &address).await.unwrap();
        assert_eq!(row.is_some(), stays, "{item} {sender} {is_used}");
        assert_eq!(log.db().range(&MEDIA_LET_GO, &(), 1).await.unwrap(), []);
    }
    // What a message shows is noted, and no more once it is taken back.
    let content = json!({ "msgtype": "m.image", "body": "x", "url": "mxc://x.org/id" });
    let path = format!("PUT /rooms/{}/send/m.room.message/9", scene.room);
    let said = scene.server.met(&scene.alice, &path, content).await["event_id"].clone();
    let uses = async || log.db().range(&MEDIA_USES, &(String::from("x.org/id"),), 9).await.unwrap().len();
    assert_eq!(uses().await, 1);
    let redact = format!("PUT /rooms/{}/redact/{}/8", scene.room, said.as_str().unwrap());
    scene.server.met(&scene.alice, &redact, json!({})).await;
    assert_eq!(uses().await, 0);
}
