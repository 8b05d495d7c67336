//! Random clients against an oracle: events once or covered by a gap, states that add up, to-device
//! messages once and in order, counts as counted naively; whatever answers are lost on the way.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{
    Ask, World,
    profiles::{FIELDS, Faces},
    text, user,
};
use crate::{
    dag::StateId,
    ephemeral::Thread,
    log::{Audience, Direction},
    push::Counts,
    sync::StateDialect,
    types::{Fact, Lane, Position},
};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
const STEPS: usize = 120;

/// What one client believes of one room.
#[derive(Default)]
struct Believed {
    /// Events of the present stay, in order, and whether a gap lies before each.
    timeline: Vec<(OwnedEventId, bool)>,
    state: BTreeMap<(String, String), OwnedEventId>,
    counts: Value,
}

struct Client {
    name: &'static str,
    device: &'static str,
    dialect: StateDialect,
    limit: usize,
    lazy: bool,
    token: Option<String>,
    rooms: BTreeMap<OwnedRoomId, Believed>,
    messages: Vec<u64>,
    faces: Faces,
}

struct Model {
    world: World,
    rng: StdRng,
    rooms: Vec<OwnedRoomId>,
    said: BTreeMap<OwnedRoomId, Vec<OwnedEventId>>,
    sent: BTreeMap<(&'static str, &'static str), u64>,
    clients: Vec<Client>,
}

#[tokio::test]
async fn clients_miss_nothing() {
    for seed in 0..25 {
        println!("seed {seed}");
        let mut model = Model::new(seed).await;
        for _ in 0..STEPS {
            model.step().await;
        }
        for index in 0..model.clients.len() {
            model.settle(index).await;
        }
    }
}

impl Model {
    async fn new(seed: u64) -> Self {
        let client = |name, device, dialect, limit, lazy| {
            let (token, rooms, messages) = (None, BTreeMap::new(), Vec::new());
            let faces = Faces::default();
            Client { name, device, dialect, limit, lazy, token, rooms, messages, faces }
        };
        Self {
            world: World::new(false).await,
            rng: StdRng::seed_from_u64(seed),
            rooms: Vec::new(),
            said: BTreeMap::new(),
            sent: BTreeMap::new(),
            clients: vec![
                client("alice", "A", StateDialect::Before, 3, false),
                client("bob", "B", StateDialect::After, 2, false),
                client("bob", "C", StateDialect::Before, 50, false),
                client("carol", "D", StateDialect::Before, 1, true),
                client("carol", "E", StateDialect::AfterUnstable, 4, true),
            ],
        }
    }

    async fn step(&mut self) {
        let name = *NAMES.choose(&mut self.rng).unwrap();
        if self.rooms.is_empty() || self.rng.random_ratio(1, 40) {
            let room = self.world.room(name).await;
            self.rooms.push(room);
            return;
        }
        let room = self.rooms.choose(&mut self.rng).unwrap().clone();
        match self.rng.random_range(0..13) {
            0 => drop(self.world.join(name, &room).await),
            1 if self.rng.random_ratio(1, 2) => drop(self.world.leave(name, &room).await),
            2 if self.is_in(name, &room).await => {
                let topic = json!({ "topic": self.rng.random::<u32>() });
                // Not everybody may.
                drop(self.world.try_set(name, &room, "m.room.topic", topic).await);
            }
            3 if self.is_in(name, &room).await => self.read(name, &room).await,
            4 => {
                let client = &self.clients[self.rng.random_range(0..self.clients.len())];
                let (name, device) = (client.name, client.device);
                for _ in 0..self.rng.random_range(1..4) {
                    let next = self.sent.entry((name, device)).or_default();
                    *next += 1;
                    self.world.to_device(name, device, *next).await;
                }
            }
            12 => {
                let field = *FIELDS.choose(&mut self.rng).unwrap();
                let value = self.rng.random_ratio(2, 3).then(|| self.rng.random::<u16>().to_string());
                self.world.set_profile(name, field, json!(value)).await;
            }
            5..=7 => {
                let index = self.rng.random_range(0..self.clients.len());
                let lost = self.rng.random_ratio(1, 4);
                self.poll(index, lost).await;
            }
            _ if self.is_in(name, &room).await => {
                let said = self.said.entry(room.clone()).or_default();
                let root = said.choose(&mut self.rng).cloned().filter(|_| self.rng.random_ratio(1, 5));
                let content = match root {
                    Some(root) => json!({"body": "x", "msgtype": "m.text",
                        "m.relates_to": {"rel_type": "m.thread", "event_id": root}}),
                    None => json!({"body": "x", "msgtype": "m.text"}),
                };
                let is_root = content.get("m.relates_to").is_none();
                let sent = self.world.send(name, &room, ("m.room.message", content), None).await;
                if let (Ok(event), true) = (sent, is_root) {
                    self.said.entry(room).or_default().push(event);
                }
            }
            _ => {}
        }
    }

    async fn is_in(&self, name: &str, room: &OwnedRoomId) -> bool {
        self.world.history().is_joined(room, &user(name)).await.unwrap()
    }

    async fn read(&mut self, name: &str, room: &OwnedRoomId) {
        let Some(event) = self.said.get(room).and_then(|said| said.choose(&mut self.rng)).cloned() else {
            return;
        };
        let thread = match self.rng.random_range(0..3) {
            0 => Thread::Unthreaded,
            1 => Thread::Main,
            _ => Thread::Root(event.clone()),
        };
        self.world.read(name, room, &event, thread).await;
    }

    /// One request of a client, whose answer may be lost.
    async fn poll(&mut self, index: usize, lost: bool) -> bool {
        let client = &self.clients[index];
        let filter = json!({"room": {
            "timeline": {"limit": client.limit, "unread_thread_notifications": true},
            "state": {"lazy_load_members": client.lazy},
        }, "org.matrix.msc4429.profile_fields": {"ids": FIELDS[..2]}});
        let ask = Ask { since: client.token.clone(), filter, dialect: client.dialect, ..Ask::default() };
        let answer = self.world.try_sync(client.name, client.device, &ask).await.unwrap();
        if lost {
            return true;
        }
        let client = &mut self.clients[index];
        client.take(&answer);
        let news = client.token != text(&answer["next_batch"]);
        client.token = text(&answer["next_batch"]);
        news
    }

    /// Polls until there is no news, and compares the client with the server.
    async fn settle(&mut self, index: usize) {
        while self.poll(index, false).await {}
        let client = &self.clients[index];
        let sent = self.sent.get(&(client.name, client.device)).copied().unwrap_or_default();
        assert_eq!(client.messages, (1..=sent).collect::<Vec<_>>(), "to-device of {}", client.device);
        let joined = self.world.history().joined_rooms(&user(client.name)).await.unwrap();
        let believed: Vec<_> = client.rooms.keys().cloned().collect();
        assert_eq!(believed, joined, "rooms of {}", client.device);
        for (room, believed) in &client.rooms {
            self.compare_timeline(client, room, believed).await;
            self.compare_state(client, room, believed).await;
            self.compare_counts(client, room, believed).await;
        }
        let known = self.must_know(client).await;
        client.faces.compare(&self.world, client.name, (&FIELDS[..2], &known)).await;
    }

    /// Whose profiles a client has: those of everybody, or of whoever has spoken.
    async fn must_know(&self, client: &Client) -> BTreeSet<String> {
        if !client.lazy {
            return NAMES.iter().map(|name| user(name).to_string()).collect();
        }
        let mut known = BTreeSet::from([user(client.name).to_string()]);
        for believed in client.rooms.values() {
            let after = believed.timeline.iter().rposition(|(_, gap)| *gap).unwrap_or_default();
            for (id, _) in &believed.timeline[after..] {
                let event = self.world.history().event(id).await.unwrap().unwrap();
                known.insert(event.pdu.sender().to_string());
            }
        }
        known
    }

    /// Every event since the user joined was given once, or lies in a gap.
    async fn compare_timeline(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let opened = self.opened(client.name, room).await;
        let facts = self.world.log.timeline(
            room,
            (Position(opened.0 - 1), Position::MAX),
            Direction::Forward,
            10_000,
        );
        let all: Vec<OwnedEventId> = facts
            .await
            .unwrap()
            .into_iter()
            .filter_map(|(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            })
            .collect();
        let once: BTreeSet<_> = believed.timeline.iter().map(|(id, _)| id).collect();
        assert_eq!(once.len(), believed.timeline.len(), "an event came twice to {}", client.device);
        let mut next = 0;
        for (id, gap) in &believed.timeline {
            // What came with the join may be from before it.
            let Some(at) = all.iter().position(|event| event == id) else { continue };
            assert!(at == next || (*gap && at > next), "{} misses an event of {room}", client.device);
            next = at + 1;
        }
        assert_eq!(next, all.len(), "{} misses the newest events of {room}", client.device);
    }

    async fn opened(&self, name: &str, room: &OwnedRoomId) -> Position {
        let lanes = self.world.log.subscriptions(&Audience::Account(user(name))).await.unwrap();
        lanes.intervals(&Lane::Room(room.clone())).last().unwrap().opened
    }

    async fn compare_state(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let history = self.world.history();
        let state = history.current_state(room).await.unwrap().unwrap_or(StateId::EMPTY);
        let entries = history.state_of(state, None).await.unwrap();
        let actual: BTreeMap<(String, String), OwnedEventId> = entries
            .into_iter()
            .map(|entry| ((entry.key.event_type.to_string(), entry.key.state_key), entry.value.event_id))
            .collect();
        for (key, id) in &believed.state {
            assert_eq!(actual.get(key), Some(id), "{} believes in an old {key:?} of {room}", client.device);
        }
        for (key, id) in &actual {
            let lacks = believed.state.get(key) != Some(id);
            let may_lack = client.lazy && key.0 == "m.room.member";
            assert!(!lacks || may_lack, "{} lacks {key:?} of {room}", client.device);
        }
    }

    /// Counts from the whole lane, without anything that is kept in memory.
    async fn compare_counts(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let naive = self.naive(client.name, room).await;
        let (main, threads) = naive;
        let expected = json!({ "main": main.notification, "threads": threads });
        assert_eq!(believed.counts, expected, "counts of {} in {room}", client.device);
    }

    async fn naive(&self, name: &str, room: &OwnedRoomId) -> (Counts, BTreeMap<OwnedEventId, u64>) {
        let (me, history) = (user(name), self.world.history());
        let lane = Lane::Room(room.clone());
        let mut marks: BTreeMap<String, Position> = BTreeMap::new();
        for (_, fact) in self.world.log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap() {
            if let Fact::Receipt { user_id, thread_id, event_id, .. } = fact
                && user_id == me
            {
                let at = history.event(&event_id).await.unwrap().unwrap().position;
                marks.insert(thread_id.unwrap_or_default(), at);
            }
        }
        let opened = self.opened(name, room).await;
        let range = (opened, Position::MAX);
        let facts = self.world.log.timeline(room, range, Direction::Forward, 10_000).await.unwrap();
        let mut events = Vec::new();
        for (at, fact) in facts {
            let Fact::Event { event_id } = fact else { continue };
            let event = history.event(&event_id).await.unwrap().unwrap();
            let thread = history.thread_of(&event).await.unwrap();
            if event.pdu.sender() == me && event.pdu.state_key().is_none() {
                let key = format!("own {thread:?}");
                marks.insert(key, at);
            }
            events.push((at, thread, event));
        }
        let (mut main, mut threads) = (Counts::default(), BTreeMap::new());
        for (at, thread, event) in events {
            let named = thread.as_ref().map_or(String::from("main"), ToString::to_string);
            let keys = [String::new(), named, format!("own {thread:?}")];
            let read = keys.iter().filter_map(|key| marks.get(key)).any(|mark| *mark >= at);
            let message = event.pdu.event_type().to_string() == "m.room.message";
            if read || !message || event.pdu.sender() == me {
                continue;
            }
            match thread {
                None => main.notification += 1,
                Some(root) => *threads.entry(root).or_default() += 1,
            }
        }
        (main, threads)
    }
}

impl Client {
    fn take(&mut self, answer: &Value) {
        self.faces.follow(answer);
        for message in answer["to_device"]["events"].as_array().into_iter().flatten() {
            self.messages.push(message["content"]["n"].as_u64().unwrap());
        }
        for (room, update) in answer["rooms"]["leave"].as_object().into_iter().flatten() {
            assert!(!update.is_null());
            self.rooms.remove(&OwnedRoomId::try_from(room.as_str()).unwrap());
        }
        for (room, update) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            let room = OwnedRoomId::try_from(room.as_str()).unwrap();
            // A room that comes back with its create event or its join is new.
            let opens = self.reopens(update);
            if opens {
                self.rooms.remove(&room);
            }
            self.rooms.entry(room).or_default().take(update, self.dialect);
        }
    }

    /// Whether the user's own join is in the update, so that what was known before is another stay.
    fn reopens(&self, update: &Value) -> bool {
        let me = user(self.name).to_string();
        let events = update["timeline"]["events"].as_array().into_iter().flatten();
        let states = ["state", "state_after", "org.matrix.msc4222.state_after"];
        let states =
            states.iter().flat_map(|place| update[*place]["events"].as_array().into_iter().flatten());
        let is_whole = states.clone().any(|event| event["type"] == "m.room.create");
        let joins = events.chain(states).any(|event| event["state_key"] == me.as_str());
        let created = update["timeline"]["events"][0]["type"] == "m.room.create";
        joins && (is_whole || created)
    }
}

impl Believed {
    fn take(&mut self, update: &Value, dialect: StateDialect) {
        let place = match dialect {
            StateDialect::Before => "state",
            StateDialect::After => "state_after",
            StateDialect::AfterUnstable => "org.matrix.msc4222.state_after",
        };
        self.set_state(&update[place]["events"]);
        if dialect == StateDialect::Before {
            self.set_state(&update["timeline"]["events"]);
        }
        let mut gap = update["timeline"]["limited"] == true;
        for event in update["timeline"]["events"].as_array().into_iter().flatten() {
            let id = OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
            self.timeline.push((id, std::mem::take(&mut gap) || self.timeline.is_empty()));
        }
        let counts = &update["unread_notifications"]["notification_count"];
        if !counts.is_null() {
            let threads: BTreeMap<&String, &Value> = update["unread_thread_notifications"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(root, counts)| (root, &counts["notification_count"]))
                .collect();
            self.counts = json!({ "main": counts, "threads": threads });
        }
    }

    fn set_state(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            let Some(state_key) = event["state_key"].as_str() else { continue };
            let key = (event["type"].as_str().unwrap().to_owned(), state_key.to_owned());
            let id = OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
            self.state.insert(key, id);
        }
    }
}
