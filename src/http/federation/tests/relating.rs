//! What was filled in of the past is told with what it relates to, among what came as it happened.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use serde_json::{Value, json};

use super::{
    Server,
    rows::{joined, quoted},
    via,
};
use crate::{
    history::{
        RemovalWalk,
        tables::{BACKFILLED, PLACES, RELATIONS, RemovalRow, THREADS},
    },
    http::Wire,
    log::Direction,
    types::Position,
};

/// Two servers, and what alice has said at the first by name.
struct Scene {
    a: Server,
    b: Server,
    alice: String,
    bob: String,
    room: OwnedRoomId,
    said: Vec<(String, OwnedEventId)>,
}

impl Scene {
    /// A room in which bob has not been until now; `early` was said before.
    async fn new(wire: &Wire, early: &str) -> Self {
        let (a, b) = (Server::new("a.org", wire).await, Server::new("b.org", wire).await);
        let alice = a.register("alice").await;
        let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        let mut scene = Self { a, b, alice, bob: String::new(), room, said: Vec::new() };
        scene.say(early).await;
        scene.bob = joined(&scene.b, "bob", (&scene.room, &scene.a)).await;
        scene
    }

    fn id(&self, name: &str) -> &OwnedEventId {
        &self.said.iter().find(|(said, _)| said == name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn name(&self, id: &Value) -> &str {
        self.said.iter().find(|(_, said)| id == said.as_str()).map_or("?", |(name, _)| name)
    }

    fn names(&self, events: &Value) -> String {
        let events = events.as_array().unwrap_or_else(|| panic!("{events}"));
        events.iter().map(|event| self.name(&event["event_id"])).collect::<Vec<_>>().join(" ")
    }

    /// Has alice say `name`, or `name=kind:parent`, where the parent is a name or the id of an event that nobody has.
    async fn say(&mut self, words: &str) {
        for word in words.split_whitespace() {
            let (name, relation) = word.split_once('=').unwrap_or((word, ""));
            let mut content = json!({ "msgtype": "m.text", "body": name });
            if let Some((kind, parent)) = relation.split_once(':') {
                let parent = if parent.starts_with('$') { parent } else { self.id(parent).as_str() };
                content["m.relates_to"] = json!({ "rel_type": format!("m.{kind}"), "event_id": parent });
                match kind {
                    "replace" => content["m.new_content"] = json!({ "msgtype": "m.text", "body": name }),
                    "annotation" => content["m.relates_to"]["key"] = name.into(),
                    _ => {}
                }
            }
            let path = format!("PUT /rooms/{}/send/m.room.message/{name}", quoted(&self.room));
            let answer = self.a.met(&self.alice, &path, content).await;
            let id = answer["event_id"].as_str().unwrap_or_else(|| panic!("{answer}")).try_into().unwrap();
            self.said.push((name.to_owned(), id));
        }
    }

    async fn redact(&self, (server, token): (&Server, &str), name: &str) {
        let path = format!("PUT /rooms/{}/redact/{}/r{name}", quoted(&self.room), quoted(self.id(name)));
        let answer = server.met(token, &path, json!({})).await;
        assert!(answer["event_id"].is_string(), "{answer}");
    }

    /// Waits until the second server has everything that was said.
    async fn settle(&self) {
        let newest = async |server: &Server| {
            let range = (Position::ZERO, Position::MAX);
            let facts = server.app.log.timeline(&self.room, range, Direction::Backward, 1).await.unwrap();
            facts.into_iter().next().map(|(_, fact)| fact)
        };
        let settled = async {
            while newest(&self.a).await != newest(&self.b).await {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), settled).await.is_ok(), "never settled");
    }

    /// Asks in bob's name.
    async fn look(&self, path: &str) -> Value {
        self.b.met(&self.bob, &format!("GET {path}"), Value::Null).await
    }

    /// Has bob page back to the beginning; the messages that he finds, oldest first.
    async fn page_back(&self, limit: usize) -> String {
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/rooms/{}/messages?dir=b&limit={limit}{from}", quoted(&self.room));
            let page = self.look(&path).await;
            let names = self.names(&page["chunk"]);
            found.extend(names.split(' ').filter(|name| !matches!(*name, "" | "?")).map(String::from));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        found.reverse();
        found.join(" ")
    }

    /// What bob is told with an event of those that relate to it.
    async fn bundle(&self, name: &str) -> Value {
        let path = format!("/rooms/{}/event/{}", quoted(&self.room), quoted(self.id(name)));
        self.look(&path).await["unsigned"]["m.relations"].take()
    }

    /// The edit, and the thread with its size and its latest event, that bob is told of with an event.
    async fn told(&self, name: &str) -> String {
        let bundle = self.bundle(name).await;
        let mut told = Vec::new();
        if let Some(edit) = bundle.get("m.replace") {
            told.push(format!("edit {}", self.name(&edit["event_id"])));
        }
        if let Some(thread) = bundle.get("m.thread") {
            let latest = self.name(&thread["latest_event"]["event_id"]);
            told.push(format!("thread {} {latest}", thread["count"]));
        }
        told.join(", ")
    }

    /// Everything that `/relations` has of an event, page by page, which must be the same backwards.
    async fn relations(&self, rest: &str, limit: usize) -> String {
        let (name, rest) =
            rest.split_once('/').map_or((rest, String::new()), |(name, rest)| (name, format!("/{rest}")));
        let path = relations_of(&self.room, self.id(name));
        let mut found = Vec::new();
        for dir in ["f", "b"] {
            let (mut names, mut from) = (Vec::new(), String::new());
            loop {
                let page = self.look(&format!("{path}{rest}?dir={dir}&limit={limit}{from}")).await;
                names.push(self.names(&page["chunk"]));
                match page["next_batch"].as_str() {
                    Some(next) => from = format!("&from={next}"),
                    None => break,
                }
            }
            let mut names: Vec<String> = names.join(" ").split_whitespace().map(ToOwned::to_owned).collect();
            if dir == "b" {
                names.reverse();
            }
            found.push(names.join(" "));
        }
        assert_eq!(found[0], found[1], "backwards it is another");
        found.pop().unwrap()
    }

    async fn threads(&self, limit: usize) -> String {
        let (mut names, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/_matrix/client/v1/rooms/{}/threads?limit={limit}{from}", quoted(&self.room));
            let page = self.look(&path).await;
            names.push(self.names(&page["chunk"]));
            match page["next_batch"].as_str() {
                Some(next) => from = format!("&from={next}"),
                None => break,
            }
        }
        names.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn relations_of(room: &RoomId, id: &OwnedEventId) -> String {
    format!("/_matrix/client/v1/rooms/{}/relations/{}", quoted(room), quoted(id))
}

#[tokio::test]
async fn what_was_filled_in_is_told_with_what_it_relates_to() {
    let wire = Wire::default();
    let early = "root t1=thread:root plain e1=replace:plain t2=thread:root a1=annotation:plain \
        other o1=thread:other a2=annotation:plain e2=replace:t1 deep=reference:a1";
    let mut scene = Scene::new(&wire, early).await;
    scene.say("t3=thread:root a3=annotation:plain late l1=thread:late").await;
    scene.settle().await;
    scene.redact((&scene.a, &scene.alice), "l1").await;
    scene.settle().await;
    for limit in [3, 100] {
        // Of what was not filled in yet nothing can be told.
        if limit == 3 {
            assert_eq!(scene.threads(10).await, "");
        }
        scene.page_back(limit).await;
        assert_eq!(scene.told("root").await, "thread 3 t3");
        assert_eq!(scene.told("other").await, "thread 1 o1");
        assert_eq!(scene.told("plain").await, "edit e1");
        assert_eq!(scene.told("t1").await, "edit e2");
        assert_eq!(scene.told("late").await, "");
    }
    for limit in 1..5 {
        assert_eq!(scene.threads(limit).await, "root other", "{limit}");
        assert_eq!(scene.relations("root", limit).await, "t1 t2 t3", "{limit}");
        assert_eq!(scene.relations("plain", limit).await, "e1 a1 a2 a3", "{limit}");
        assert_eq!(scene.relations("plain/m.annotation", limit).await, "a1 a2 a3", "{limit}");
        assert_eq!(scene.relations("plain/m.replace", limit).await, "e1", "{limit}");
    }
    let path = relations_of(&scene.room, scene.id("plain"));
    let all = scene.look(&format!("{path}?dir=f&recurse=true")).await;
    assert_eq!(scene.names(&all["chunk"]), "e1 a1 a2 deep a3");
    // From a place in the middle both ways lead on.
    let page = scene.look(&format!("{path}?dir=f&limit=2")).await;
    let from = page["next_batch"].as_str().unwrap();
    let page = scene.look(&format!("{path}?dir=f&from={from}")).await;
    assert_eq!((scene.names(&page["chunk"]).as_str(), &page["prev_batch"]), ("a2 a3", &json!(from)));
    let page = scene.look(&format!("{path}?dir=b&from={from}")).await;
    assert_eq!(scene.names(&page["chunk"]), "a1 e1");
    let page = scene.look(&format!("{path}?dir=b&to={from}")).await;
    assert_eq!(scene.names(&page["chunk"]), "a3 a2");
    // Who asks for the members there is answered.
    let page = scene.look(&format!("/rooms/{}/messages?dir=b&limit=9", quoted(&scene.room))).await;
    let at = page["end"].as_str().unwrap();
    assert!(at.contains('_'), "{at}");
    let members = scene.look(&format!("/rooms/{}/members?at={at}", quoted(&scene.room))).await;
    assert!(members["chunk"].is_array(), "{members}");
    // What comes after that counts on.
    scene.say("t4=thread:root o2=thread:other").await;
    scene.settle().await;
    assert_eq!(scene.told("root").await, "thread 4 t4");
    assert_eq!(scene.told("other").await, "thread 2 o2");
    assert_eq!(scene.threads(1).await, "other root");
}

#[tokio::test]
async fn what_is_redacted_of_what_was_filled_in_relates_to_nothing() {
    let wire = Wire::default();
    let early = "root t1=thread:root t2=thread:root plain a1=annotation:plain a2=annotation:plain \
        e1=replace:plain gone=thread:root only o1=thread:only";
    let mut scene = Scene::new(&wire, early).await;
    scene.say("t3=thread:root").await;
    scene.settle().await;
    scene.redact((&scene.a, &scene.alice), "gone").await;
    scene.settle().await;
    scene.page_back(4).await;
    assert_eq!(scene.told("root").await, "thread 3 t3", "one was redacted before it came");
    assert_eq!(scene.relations("plain", 2).await, "a1 a2 e1");
    assert_eq!(scene.threads(10).await, "root only");
    for (name, of, told, left) in [
        ("a1", "plain", "edit e1", "a2 e1"),
        ("e1", "plain", "", "a2"),
        ("t1", "root", "thread 2 t3", "t2 t3"),
        ("t3", "root", "thread 1 t2", "t2"),
        ("o1", "only", "", ""),
    ] {
        scene.redact((&scene.a, &scene.alice), name).await;
        scene.settle().await;
        assert_eq!(scene.told(of).await, told, "without {name}");
        assert_eq!(scene.relations(of, 2).await, left, "without {name}");
    }
    assert_eq!(scene.threads(10).await, "root");
    scene.redact((&scene.a, &scene.alice), "t2").await;
    scene.settle().await;
    assert_eq!((scene.told("root").await.as_str(), scene.threads(10).await.as_str()), ("", ""));
    scene.say("t4=thread:root").await;
    scene.settle().await;
    assert_eq!(
        (scene.told("root").await.as_str(), scene.threads(10).await.as_str()),
        ("thread 1 t4", "root")
    );
}

/// Replies of before and after that are taken out in one go, and a room that goes.
#[tokio::test]
async fn what_is_over_is_not_counted_and_leaves_nothing_behind() {
    let wire = Wire::default();
    let early =
        "root t1=thread:root t2=thread:root t3=thread:root a1=annotation:root lost1=reference:$nowhere";
    let nowhere = OwnedEventId::try_from("$nowhere").unwrap();
    let mut scene = Scene::new(&wire, early).await;
    scene.say("t4=thread:root t5=thread:root").await;
    scene.settle().await;
    scene.page_back(4).await;
    assert_eq!(scene.told("root").await, "thread 5 t5");
    let ends = |names: &str| names.split(' ').map(|name| scene.id(name).clone()).collect::<Vec<_>>();
    let rooms = scene.b.app.rooms.clone();
    assert_eq!(rooms.expire(&scene.room, &ends("t5 t2 t4")).await.unwrap(), 3);
    assert_eq!(scene.told("root").await, "thread 2 t3");
    assert_eq!(scene.relations("root", 1).await, "t1 t3 a1");
    assert_eq!(rooms.erase(&scene.room, &ends("t3 a1"), &scene.a.user("alice")).await.unwrap(), 2);
    assert_eq!(
        (scene.told("root").await.as_str(), scene.relations("root", 1).await.as_str()),
        ("thread 1 t1", "t1")
    );
    assert_eq!(scene.threads(5).await, "root");
    scene.say("lost2=reference:$nowhere").await;
    scene.settle().await;
    let db = scene.b.app.log.db();
    assert_eq!(db.range(&RELATIONS, &(nowhere.clone(),), 10).await.unwrap().len(), 2);
    scene.b.met(&scene.bob, &format!("POST /rooms/{}/leave", quoted(&scene.room)), json!({})).await;
    let row = RemovalRow { purge: true, began: scene.b.app.log.head(), ..RemovalRow::default() };
    rooms.remove(&scene.room, row).await.unwrap();
    let mut walk = RemovalWalk::default();
    while rooms.remove_some(&mut walk).await.unwrap() {}
    assert_eq!(db.range(&RELATIONS, &(), 10).await.unwrap(), []);
    assert_eq!(db.range(&THREADS, &(), 10).await.unwrap(), []);
    assert_eq!(db.range(&BACKFILLED, &(), 10).await.unwrap(), []);
    assert_eq!(db.range(&PLACES, &(), 10).await.unwrap(), []);
}

/// However often a server has come and gone: a page that would have to be fetched in more parts than it may ends before.
#[tokio::test]
async fn no_gap_is_passed_over() {
    let wire = Wire::default();
    let mut scene = Scene::new(&wire, "m0").await;
    for round in 1..8 {
        scene.b.met(&scene.bob, &format!("POST /rooms/{}/leave", quoted(&scene.room)), json!({})).await;
        scene.say(&format!("m{round}")).await;
        let join = format!("POST /join/{}", via(&scene.room, &[&scene.a]));
        assert_eq!(scene.b.met(&scene.bob, &join, json!({})).await, json!({ "room_id": scene.room }));
    }
    assert_eq!(scene.page_back(30).await, "m0 m1 m2 m3 m4 m5 m6 m7");
}

/// Room history visibility: "After a user has left a room, they may see any events which they were allowed to see before
/// they left the room, but no events received after they left." That they came later as part of the past is no matter.
#[tokio::test]
async fn who_has_left_is_not_shown_what_was_filled_in_behind_that() {
    let wire = Wire::default();
    let mut scene = Scene::new(&wire, "root before=thread:root").await;
    scene.say("within=thread:root").await;
    scene.settle().await;
    scene.b.met(&scene.bob, &format!("POST /rooms/{}/leave", quoted(&scene.room)), json!({})).await;
    scene.say("secret=thread:root").await;
    // Nobody of theirs is there who could ask for more.
    assert_eq!(scene.page_back(10).await, "within");
    let carol = joined(&scene.b, "carol", (&scene.room, &scene.a)).await;
    let bob = std::mem::replace(&mut scene.bob, carol);
    assert_eq!(scene.page_back(3).await, "root before within secret");
    assert_eq!(scene.told("root").await, "thread 3 secret");
    scene.bob = bob;
    assert_eq!(scene.page_back(3).await, "root before within");
    assert_eq!(scene.relations("root", 1).await, "before within");
    let path = format!("/rooms/{}/event/{}", quoted(&scene.room), quoted(scene.id("secret")));
    assert_eq!(scene.look(&path).await, "404 M_NOT_FOUND");
    assert!(scene.told("root").await.ends_with(" within"));
}

/// What was filled in is found in the order in which it was said, behind what came since, page by page.
#[tokio::test]
async fn what_was_filled_in_is_found_in_its_order() {
    let wire = Wire::default();
    let mut scene = Scene::new(&wire, "m-1 m-2 m-3 m-4 m-5 m-6 m-7").await;
    scene.say("m-8 m-9").await;
    scene.settle().await;
    scene.page_back(3).await;
    for limit in [1, 2, 9] {
        let (mut found, mut next) = (Vec::new(), String::new());
        for _ in 0..20 {
            let criteria = json!({
                "search_term": "m", "order_by": "recent", "filter": { "limit": limit },
            });
            let criteria = json!({ "search_categories": { "room_events": criteria } });
            let answer = scene.b.met(&scene.bob, &format!("POST /search{next}"), criteria).await;
            let events = &answer["search_categories"]["room_events"];
            let results = events["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
            found.extend(results.iter().map(|result| scene.name(&result["result"]["event_id"]).to_owned()));
            match events["next_batch"].as_str() {
                Some(token) => next = format!("?next_batch={token}"),
                None => break,
            }
        }
        assert_eq!(found.join(" "), "m-9 m-8 m-7 m-6 m-5 m-4 m-3 m-2 m-1", "{limit}");
    }
}
