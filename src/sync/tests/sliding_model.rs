//! Random clients of sliding sync against an oracle: whatever answers are lost, windows moved, and
//! connections begun anew, in the end a client has its rooms, every event or a gap, the state that it
//! wants, the counts as counted naively, receipts, typing and account data.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{
    World,
    profiles::{FIELDS, Faces},
    sliding_faults::{Damage, Threads},
    user,
};
use crate::{
    dag::StateId,
    ephemeral::Thread,
    log::{Audience, Direction},
    sync::{SlidingShape, SyncError},
    types::{Fact, Lane, Position},
};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
const STEPS: usize = 140;

/// What one client believes of one room.
#[derive(Default)]
struct Believed {
    membership: String,
    /// Events in order, and whether a gap lies before each.
    timeline: Vec<(OwnedEventId, bool)>,
    /// A gap lies after them.
    gap: bool,
    state: BTreeMap<(String, String), OwnedEventId>,
    joined: Value,
    unread: Value,
    name: Value,
    /// From here on receipts are complete.
    since: u64,
    /// By user, kind and thread.
    receipts: BTreeMap<(String, String, String), OwnedEventId>,
    typing: Vec<String>,
    tag: Value,
    is_dm: bool,
}

pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) device: &'static str,
    shape: SlidingShape,
    lazy: bool,
    pos: Value,
    since: Value,
    rooms: BTreeMap<OwnedRoomId, Believed>,
    messages: Vec<u64>,
    data: Value,
    faces: Faces,
    pub(super) threads: Threads,
}

pub(super) struct Model {
    pub(super) world: Option<World>,
    is_narrow: bool,
    pub(super) damage: Option<Damage>,
    pub(super) rng: StdRng,
    pub(super) rooms: Vec<OwnedRoomId>,
    pub(super) said: BTreeMap<OwnedRoomId, Vec<OwnedEventId>>,
    sent: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) clients: Vec<Client>,
}

#[tokio::test]
async fn clients_that_slide_miss_nothing() {
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
        let world = World::new(false).await;
        let client = |name, device, shape, lazy| Client {
            name,
            device,
            shape,
            lazy,
            pos: Value::Null,
            since: Value::Null,
            rooms: BTreeMap::new(),
            messages: Vec::new(),
            data: Value::Null,
            faces: Faces::default(),
            threads: Threads::default(),
        };
        let mut model = Self {
            world: Some(world),
            is_narrow: seed % 2 == 1,
            damage: None,
            rng: StdRng::seed_from_u64(seed),
            rooms: Vec::new(),
            said: BTreeMap::new(),
            sent: BTreeMap::new(),
            clients: vec![
                client("alice", "A", SlidingShape::Unstable, false),
                client("bob", "B", SlidingShape::Final, false),
                client("bob", "C", SlidingShape::Unstable, true),
                client("carol", "E", SlidingShape::Final, true),
            ],
        };
        model.narrow();
        model
    }

    /// Clients of every other server get one room at a time.
    pub(super) fn narrow(&mut self) {
        if let Some(world) = self.world.as_mut().filter(|_| self.is_narrow) {
            world.narrow();
        }
    }

    pub(super) fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    async fn step(&mut self) {
        let name = *NAMES.choose(&mut self.rng).unwrap();
        if self.rooms.len() < 3 || self.rng.random_ratio(1, 40) {
            let room = self.world().room(name).await;
            self.rooms.push(room);
            return;
        }
        if self.rng.random_ratio(1, 15) {
            self.damage_or_mend().await;
            return;
        }
        let room = self.rooms.choose(&mut self.rng).unwrap().clone();
        if self.is_damaged(&room) {
            let (index, lost) = (self.rng.random_range(0..self.clients.len()), self.rng.random_ratio(1, 3));
            self.poll(index, None, lost).await;
            return;
        }
        let is_in = self.world().history().is_joined(&room, &user(name)).await.unwrap();
        match self.rng.random_range(0..19) {
            0 => drop(self.world().join(name, &room).await),
            1 if self.rng.random_ratio(1, 2) => drop(self.world().leave(name, &room).await),
            2 if is_in => {
                let kind = *["m.room.topic", "m.room.name"].choose(&mut self.rng).unwrap();
                let content = json!({"topic": "t", "name": self.rng.random::<u32>().to_string()});
                // Not everybody may.
                drop(self.world().try_set(name, &room, kind, content).await);
            }
            3 if is_in => self.read(name, &room).await,
            4 => {
                let client = &self.clients[self.rng.random_range(0..self.clients.len())];
                let (name, device) = (client.name, client.device);
                let next = self.sent.entry((name, device)).or_default();
                *next += 1;
                let next = *next;
                self.world().to_device(name, device, next).await;
            }
            5 if is_in => {
                let lasts = self.rng.random_ratio(1, 2).then_some(Some(60_000));
                drop(self.world().ephemeral.set_typing(&room, &user(name), lasts).await);
            }
            6 => self.set_data(name, &room).await,
            7 if self.rng.random_ratio(1, 6) => {
                self.world = Some(self.world.take().unwrap().restart().await);
                self.narrow();
            }
            18 if is_in => self.follow_thread(name, &room).await,
            16..18 => {
                let field = *FIELDS.choose(&mut self.rng).unwrap();
                let value = self.rng.random_ratio(2, 3).then(|| self.rng.random::<u16>().to_string());
                self.world().set_profile(name, field, json!(value)).await;
            }
            8..=11 => {
                let index = self.rng.random_range(0..self.clients.len());
                let lost = self.rng.random_ratio(1, 3);
                self.poll(index, None, lost).await;
            }
            _ if is_in => self.say(name, &room).await,
            _ => {}
        }
    }

    async fn set_data(&mut self, name: &str, room: &OwnedRoomId) {
        let value = json!({"n": self.rng.random::<u16>()});
        match self.rng.random_range(0..3) {
            0 => self.world().set_data(name, None, "m.x", value).await,
            1 => self.world().set_data(name, Some(room), "m.x", value).await,
            _ => {
                let direct: Vec<&OwnedRoomId> =
                    self.rooms.iter().filter(|_| self.rng.random_ratio(1, 3)).collect();
                let direct = json!({ "@x:a.org": direct });
                self.world.as_ref().unwrap().set_data(name, None, "m.direct", direct).await;
            }
        }
    }

    async fn say(&mut self, name: &str, room: &OwnedRoomId) {
        let said = self.said.entry(room.clone()).or_default();
        let root = said.choose(&mut self.rng).cloned().filter(|_| self.rng.random_ratio(1, 5));
        let mut content = json!({"body": "x", "msgtype": "m.text"});
        if let Some(root) = &root {
            content["m.relates_to"] = json!({"rel_type": "m.thread", "event_id": root});
        }
        let sent = self.world().send(name, room, ("m.room.message", content), None).await;
        if let (Ok(event), None) = (sent, root) {
            self.said.entry(room.clone()).or_default().push(event);
        }
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
        self.world().read(name, room, &event, thread).await;
    }

    /// One request of a client, whose answer may be lost. Says whether there was news.
    async fn poll(&mut self, index: usize, window: Option<u64>, lost: bool) -> bool {
        let rng = &mut self.rng;
        let all = window.is_some();
        if !all && rng.random_ratio(1, 25) {
            // The client begins anew; it may keep what it knows of messages to the device.
            self.clients[index].pos = Value::Null;
        }
        let limit = if all { 3 } else { rng.random_range(0..6) };
        let last = window.unwrap_or_else(|| rng.random_range(0..4));
        let state = |lazy| match lazy {
            true => json!([["*", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]),
            false => json!([["*", "*"]]),
        };
        let client = &self.clients[index];
        let config = json!({"timeline_limit": limit, "required_state": state(client.lazy)});
        let mut list = config.clone();
        list["ranges"] = json!([[0, last]]);
        let on = |sure: bool| json!({ "enabled": sure || all });
        let mut extensions = json!({
            "receipts": on(rng.random_ratio(4, 5)),
            "typing": on(rng.random_ratio(4, 5)),
            "account_data": on(rng.random_ratio(4, 5)),
            "e2ee": on(true),
            "to_device": {"enabled": true, "limit": 3},
        });
        extensions["io.element.msc4308.thread_subscriptions"] = on(rng.random_ratio(4, 5));
        if !all {
            extensions["io.element.msc4308.thread_subscriptions"]["limit"] = rng.random_range(1..4).into();
        }
        extensions["to_device"]["since"] = client.since.clone();
        let mut profiles = on(rng.random_ratio(4, 5));
        if client.lazy || (!all && rng.random_ratio(1, 4)) {
            profiles["fields"] = json!(FIELDS[..if all { 2 } else { rng.random_range(1..3) }]);
        }
        extensions["org.matrix.msc4262.profiles"] = profiles;
        let mut body = json!({ "conn_id": "c", "lists": {"a": list}, "extensions": extensions });
        body["pos"] = client.pos.clone();
        if !all && rng.random_ratio(1, 3) {
            let room = self.rooms.choose(rng).unwrap();
            let mut config = config;
            config["timeline_limit"] = rng.random_range(0..9).into();
            body["room_subscriptions"] = json!({ room.as_str(): config });
        }
        let who = (client.name, client.device);
        let answer = match self.world().try_slide(who, client.shape, body).await {
            Err(SyncError::UnknownPos) => panic!("{} lost its connection", client.device),
            answer => answer.unwrap(),
        };
        if lost {
            return true;
        }
        let client = &mut self.clients[index];
        let news = client.pos.is_null() || client.pos != answer["pos"];
        client.take(&answer);
        self.take_threads(index, &answer["extensions"]).await;
        news
    }

    /// Polls until there is no news, and compares the client with the server.
    async fn settle(&mut self, index: usize) {
        self.mend().await;
        while self.poll(index, Some(99), false).await {}
        let client = &self.clients[index];
        let sent = self.sent.get(&(client.name, client.device)).copied().unwrap_or_default();
        assert_eq!(client.messages, (1..=sent).collect::<Vec<_>>(), "to-device of {}", client.device);
        let joined = self.world().history().joined_rooms(&user(client.name)).await.unwrap();
        let believed = client.rooms.iter().filter(|(_, room)| room.membership == "join");
        let believed: Vec<_> = believed.map(|(room, _)| room.clone()).collect();
        assert_eq!(believed, joined, "rooms of {}", client.device);
        for (room, believed) in client.rooms.iter().filter(|(room, _)| joined.contains(room)) {
            self.compare_timeline(client, room, believed).await;
            self.compare_state(client, room, believed).await;
            self.compare_rest(client, room, believed).await;
            self.compare_receipts(client, room, believed).await;
            if client.shape == SlidingShape::Unstable {
                let naive = self.naive(client.name, room).await;
                assert_eq!(believed.unread, naive, "counts of {} in {room}", client.device);
            }
        }
        self.compare_threads(client, &joined).await;
        let data = self.world().accounts.data(&user(client.name), None, "m.x").await.unwrap();
        let data = data.map_or(Value::Null, |data| serde_json::from_str(data.get()).unwrap());
        assert_eq!(client.data, data, "account data of {}", client.device);
        let known = self.must_know(client).await;
        let fields = if client.lazy { &FIELDS[..2] } else { &FIELDS };
        client.faces.compare(self.world(), client.name, (fields, &known)).await;
    }

    /// Whose profiles a client has: those of everybody, or of whoever has spoken.
    async fn must_know(&self, client: &Client) -> BTreeSet<String> {
        if !client.lazy {
            return NAMES.iter().map(|name| user(name).to_string()).collect();
        }
        let mut known = BTreeSet::from([user(client.name).to_string()]);
        for believed in client.rooms.values().filter(|room| room.membership == "join") {
            let after = believed.timeline.iter().rposition(|(_, gap)| *gap).unwrap_or_default();
            for (id, _) in &believed.timeline[after..] {
                let event = self.world().history().event(id).await.unwrap().unwrap();
                known.insert(event.pdu.sender().to_string());
            }
        }
        known
    }

    async fn compare_rest(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let (world, device) = (self.world(), client.device);
        let row = world.history().room(room).await.unwrap().unwrap();
        assert_eq!(believed.joined, row.joined, "members of {room} for {device}");
        let typing: Vec<String> =
            world.ephemeral.typing(room).into_iter().map(|user| user.to_string()).collect();
        assert_eq!(believed.typing, typing, "typing in {room} for {device}");
        let me = user(client.name);
        let tag = world.accounts.data(&me, Some(room), "m.x").await.unwrap();
        let tag = tag.map_or(Value::Null, |tag| serde_json::from_str(tag.get()).unwrap());
        assert_eq!(believed.tag, tag, "account data of {room} for {device}");
        let direct = world.accounts.data(&me, None, "m.direct").await.unwrap();
        let is_dm = direct.is_some_and(|direct| direct.get().contains(room.as_str()));
        assert_eq!(believed.is_dm, is_dm, "{room} for {device}");
        let name = world.history().state_event(row.state, "m.room.name".into(), "").await.unwrap();
        let name = name.map(|event| event.pdu.content_as::<Value>().unwrap()["name"].clone());
        assert_eq!(believed.name, name.unwrap_or_default(), "name of {room} for {device}");
    }

    async fn opened(&self, name: &str, room: &OwnedRoomId) -> Position {
        let lanes = self.world().log.subscriptions(&Audience::Account(user(name))).await.unwrap();
        lanes.intervals(&Lane::Room(room.clone())).last().unwrap().opened
    }

    pub(super) async fn events_after(
        &self,
        room: &OwnedRoomId,
        from: Position,
    ) -> Vec<(Position, OwnedEventId)> {
        let range = (from, Position::MAX);
        let facts = self.world().log.timeline(room, range, Direction::Forward, 10_000).await.unwrap();
        let event = |(at, fact)| match fact {
            Fact::Event { event_id } => Some((at, event_id)),
            _ => None,
        };
        facts.into_iter().filter_map(event).collect()
    }

    /// Every event since the user joined was given once, or lies in a gap.
    async fn compare_timeline(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let opened = self.opened(client.name, room).await;
        let all = self.events_after(room, Position(opened.0 - 1)).await;
        let once: BTreeSet<_> = believed.timeline.iter().map(|(id, _)| id).collect();
        assert_eq!(once.len(), believed.timeline.len(), "an event came twice to {}", client.device);
        let mut next = 0;
        for (id, gap) in &believed.timeline {
            // What came with the join may be from before it.
            let Some(at) = all.iter().position(|(_, event)| event == id) else { continue };
            assert!(at == next || (*gap && at > next), "{} misses an event of {room}", client.device);
            next = at + 1;
        }
        assert_eq!(next, all.len(), "{} misses the newest events of {room}", client.device);
    }

    async fn compare_state(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let history = self.world().history();
        let state = history.current_state(room).await.unwrap().unwrap_or(StateId::EMPTY);
        let entries = history.state_of(state, None).await.unwrap();
        let actual: BTreeMap<(String, String), OwnedEventId> = entries
            .into_iter()
            .map(|entry| ((entry.key.event_type.to_string(), entry.key.state_key), entry.value.event_id))
            .collect();
        for (key, id) in &believed.state {
            assert_eq!(actual.get(key), Some(id), "{} believes in an old {key:?} of {room}", client.device);
        }
        // Whoever said something since the last gap is known.
        let mut speakers = BTreeSet::new();
        for (id, gap) in &believed.timeline {
            if *gap {
                speakers.clear();
            }
            speakers.insert(history.event(id).await.unwrap().unwrap().pdu.sender().to_string());
        }
        for (key, id) in &actual {
            let lacks = believed.state.get(key) != Some(id);
            let may_lack = client.lazy && key.0 == "m.room.member" && !speakers.contains(&key.1);
            assert!(!lacks || may_lack, "{} lacks {key:?} of {room}", client.device);
        }
    }

    /// The user's own receipts are known, and of others those that came since the client has the room.
    async fn compare_receipts(&self, client: &Client, room: &OwnedRoomId, believed: &Believed) {
        let lane = Lane::Room(room.clone());
        let me = user(client.name);
        for (at, fact) in self.world().log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap() {
            let Fact::Receipt { user_id, thread_id, event_id, .. } = fact else { continue };
            if user_id != me && at.0 <= believed.since {
                continue;
            }
            let known = |thread: &str| {
                believed.receipts.get(&(user_id.to_string(), String::from("m.read"), thread.to_owned()))
            };
            let thread = thread_id.unwrap_or_default();
            // Of two of one user for one event the one that says more is told, and may have moved on since.
            let mut is_known = known(&thread) == Some(&event_id);
            let is_root = thread == event_id.as_str();
            for wider in [Some(""), (is_root || thread == "main").then_some("main")].into_iter().flatten() {
                if let Some(other) = known(wider) {
                    is_known |= self.position(other).await >= self.position(&event_id).await;
                }
            }
            assert!(is_known, "{} lacks a receipt of {user_id} ({thread}) in {room}", client.device);
        }
    }

    async fn position(&self, event: &OwnedEventId) -> Position {
        self.world().history().event(event).await.unwrap().unwrap().position
    }

    /// How much is unread, counted from the whole lane.
    async fn naive(&self, name: &str, room: &OwnedRoomId) -> u64 {
        let (me, history) = (user(name), self.world().history());
        let lane = Lane::Room(room.clone());
        let mut marks: BTreeMap<String, Position> = BTreeMap::new();
        for (_, fact) in self.world().log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap() {
            if let Fact::Receipt { user_id, thread_id, event_id, .. } = fact
                && user_id == me
            {
                let at = history.event(&event_id).await.unwrap().unwrap().position;
                marks.insert(thread_id.unwrap_or_default(), at);
            }
        }
        let mut events = Vec::new();
        for (at, event_id) in self.events_after(room, self.opened(name, room).await).await {
            let event = history.event(&event_id).await.unwrap().unwrap();
            let thread = history.thread_of(&event).await.unwrap();
            if event.pdu.sender() == me && event.pdu.state_key().is_none() {
                marks.insert(format!("own {thread:?}"), at);
            }
            events.push((at, thread, event));
        }
        let unread = events.into_iter().filter(|(at, thread, event)| {
            let named = thread.as_ref().map_or(String::from("main"), ToString::to_string);
            let keys = [String::new(), named, format!("own {thread:?}")];
            let read = keys.iter().filter_map(|key| marks.get(key)).any(|mark| mark >= at);
            !read && event.pdu.event_type().to_string() == "m.room.message" && event.pdu.sender() != me
        });
        unread.count() as u64
    }
}

impl Client {
    fn take(&mut self, answer: &Value) {
        if self.pos.is_null() {
            self.rooms.clear();
            self.faces = Faces::default();
            self.threads.clear();
        }
        self.pos = answer["pos"].clone();
        let extensions = &answer["extensions"];
        self.since = extensions["to_device"]["next_batch"].clone();
        for message in extensions["to_device"]["events"].as_array().into_iter().flatten() {
            self.messages.push(message["content"]["n"].as_u64().unwrap());
        }
        for event in extensions["account_data"]["global"].as_array().into_iter().flatten() {
            if event["type"] == "m.x" {
                self.data = event["content"].clone();
            }
        }
        let upto = self.pos.as_str().unwrap().trim_start_matches('s').split('~').next().unwrap();
        let upto: u64 = upto.parse().unwrap();
        for (room, update) in answer["rooms"].as_object().into_iter().flatten() {
            let room = OwnedRoomId::try_from(room.as_str()).unwrap();
            if update["initial"] == true {
                self.rooms.insert(room.clone(), Believed { since: upto, ..Believed::default() });
            }
            let me = user(self.name).to_string();
            self.rooms.get_mut(&room).expect("a room begins").take(update, &me, self.lazy);
        }
        self.take_extensions(extensions);
        self.faces.slide(extensions);
    }

    fn take_extensions(&mut self, extensions: &Value) {
        let per_room = |name: &str| extensions[name]["rooms"].as_object().cloned().unwrap_or_default();
        let id = |room: &str| OwnedRoomId::try_from(room).unwrap();
        for (room, event) in per_room("typing") {
            let users = event["content"]["user_ids"].as_array().unwrap();
            let users = users.iter().map(|user| user.as_str().unwrap().to_owned()).collect();
            self.rooms.entry(id(&room)).or_default().typing = users;
        }
        for (room, events) in per_room("account_data") {
            for event in events.as_array().unwrap().iter().filter(|event| event["type"] == "m.x") {
                self.rooms.entry(id(&room)).or_default().tag = event["content"].clone();
            }
        }
        for (room, event) in per_room("receipts") {
            let receipts = &mut self.rooms.entry(id(&room)).or_default().receipts;
            for (event, kinds) in event["content"].as_object().unwrap() {
                for (kind, users) in kinds.as_object().unwrap() {
                    for (user, receipt) in users.as_object().unwrap() {
                        let thread = receipt["thread_id"].as_str().unwrap_or_default().to_owned();
                        let event = OwnedEventId::try_from(event.as_str()).unwrap();
                        receipts.insert((user.clone(), kind.clone(), thread), event);
                    }
                }
            }
        }
    }
}

impl Believed {
    fn take(&mut self, update: &Value, me: &str, lazy: bool) {
        let (initial, limited) = (update["initial"] == true, update["limited"] == true);
        let expanded =
            ["expanded_timeline", "unstable_expanded_timeline"].iter().any(|flag| update[*flag] == true);
        if limited && lazy {
            self.state.retain(|(event_type, _), _| event_type != "m.room.member");
        }
        for event in update["required_state"].as_array().into_iter().flatten() {
            let key =
                (event["type"].as_str().unwrap().to_owned(), event["state_key"].as_str().unwrap().to_owned());
            match event["event_id"].as_str() {
                Some(id) => drop(self.state.insert(key, OwnedEventId::try_from(id).unwrap())),
                None => drop(self.state.remove(&key)),
            }
            if event["type"] == "m.room.member" && event["state_key"] == me {
                self.membership = event["content"]["membership"].as_str().unwrap().to_owned();
            }
        }
        if let Some(membership) = update["membership"].as_str() {
            self.membership = membership.to_owned();
        }
        if expanded || initial {
            self.timeline.clear();
            self.gap = false;
        }
        let mut gap = limited || std::mem::take(&mut self.gap);
        for event in update["timeline"].as_array().into_iter().flatten() {
            let id = OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
            self.timeline.push((id, std::mem::take(&mut gap)));
        }
        // A gap up to the present is before the next event.
        self.gap = gap;
        let fields = [
            (&mut self.joined, "joined_count"),
            (&mut self.unread, "notification_count"),
            (&mut self.name, "name"),
        ];
        for (field, name) in fields {
            if let Some(value) = update.get(name) {
                *field = value.clone();
            }
        }
        if let Some(is_dm) = update["is_dm"].as_bool() {
            self.is_dm = is_dm;
        }
    }
}
