//! A client of sliding sync, in either shape.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    beside::STICKY,
    faces::{FIELDS, Faces},
    follower::{Fate, compare_devices, compare_invites, is_overlooked, note_devices},
    known::{Known, Piece, compare_data, tally},
    ledger::Room,
    sight::Look,
    town::Town,
};

#[derive(Clone, Default)]
pub(super) struct Slider {
    who: usize,
    device: usize,
    /// It speaks the shape of `/v4/sync`.
    is_final: bool,
    lazy: bool,
    conn: String,
    pos: Option<String>,
    /// Up to where it has messages to the device.
    since: Option<String>,
    rooms: BTreeMap<String, Known>,
    messages: Vec<u64>,
    data: BTreeMap<String, Value>,
    /// Whose devices it follows, from when it first asked for them.
    devices: Option<BTreeMap<String, u64>>,
    faces: Faces,
    /// Up to where it has what sticks, and what that is.
    sticky_since: Option<String>,
    sticky: BTreeSet<String>,
    ignored: BTreeSet<String>,
    has_gone_back: bool,
}

/// What a request asks for beside what is always asked for.
#[derive(Default)]
pub(super) struct Wish {
    /// Events of each timeline.
    limit: usize,
    /// The windows of two lists, the second of direct chats.
    windows: [usize; 2],
    /// A room that is subscribed to, with how many events.
    subscription: Option<(String, usize)>,
    /// Extensions that are off.
    off: Vec<&'static str>,
    /// How much at once of what sticks; 0: that is off.
    sticky: usize,
    /// Extensions that speak of the second list only.
    narrow: Vec<&'static str>,
}

const PROFILES: &str = "org.matrix.msc4262.profiles";
const EXTENSIONS: [&str; 5] = [PROFILES, "receipts", "typing", "account_data", "e2ee"];

impl Wish {
    pub(super) fn any(town: &mut Town) -> Self {
        let mut wish =
            Self { limit: town.below(5), windows: [town.below(4), town.below(3)], ..Self::default() };
        if town.chance(1, 3) {
            let room = town.below(town.rooms.len());
            wish.subscription = Some((town.rooms[room].id.clone(), town.below(9)));
        }
        wish.sticky = [0, 1, 2, 50][town.below(4)];
        wish.off = EXTENSIONS.into_iter().filter(|_| town.chance(1, 5)).collect();
        wish.narrow = EXTENSIONS[..4].iter().copied().filter(|_| town.chance(1, 5)).collect();
        wish
    }

    fn everything() -> Self {
        Self { limit: 3, windows: [99, 99], sticky: 50, ..Self::default() }
    }
}

impl Slider {
    pub(super) fn all() -> Vec<Self> {
        let make = |who, device, is_final, lazy| Self {
            who,
            device,
            is_final,
            lazy,
            conn: String::from("main"),
            ..Self::default()
        };
        vec![
            make(0, 0, false, false),
            make(1, 0, true, false),
            make(1, 1, false, true),
            make(3, 0, true, true),
        ]
    }

    /// Begins anew; messages to the device it keeps.
    pub(super) fn reset(&mut self) {
        self.pos = None;
        self.rooms.clear();
        self.data.clear();
        self.devices = None;
        self.faces = Faces::default();
        self.sticky_since = None;
        self.sticky.clear();
    }

    pub(super) fn go_back(&mut self, before: Self) {
        let messages = std::mem::take(&mut self.messages);
        *self = Self { messages, has_gone_back: true, ..before };
    }

    fn body(&self, wish: &Wish) -> Value {
        let state = match self.lazy {
            true => json!([["*", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]),
            false => json!([["*", "*"]]),
        };
        let config = |limit: usize| json!({ "timeline_limit": limit, "required_state": state });
        let list = |window: usize| {
            let mut list = config(wish.limit);
            list["ranges"] = json!([[0, window]]);
            list
        };
        let mut direct = list(wish.windows[1]);
        direct["filters"] = json!({ "is_dm": true });
        let mut body = json!({ "conn_id": self.conn, "lists": { "a": list(wish.windows[0]), "b": direct } });
        for extension in EXTENSIONS {
            body["extensions"][extension] = json!({ "enabled": !wish.off.contains(&extension) });
            if wish.narrow.contains(&extension) {
                body["extensions"][extension]["lists"] = json!(["b"]);
            }
        }
        if wish.limit.is_multiple_of(2) {
            body["extensions"][PROFILES]["fields"] = json!(&FIELDS[..1]);
        }
        if wish.sticky > 0 {
            body["extensions"][STICKY] = json!({ "enabled": true, "limit": wish.sticky });
            body["extensions"][STICKY]["since"] = self.sticky_since.clone().into();
        }
        body["extensions"]["to_device"] = json!({ "enabled": true, "limit": 3 });
        if let Some(since) = &self.since {
            body["extensions"]["to_device"]["since"] = since.as_str().into();
        }
        if let Some((room, limit)) = &wish.subscription {
            body["room_subscriptions"] = json!({ room: config(*limit) });
        }
        body
    }

    /// One request. Says whether there was news.
    pub(super) async fn poll(&mut self, town: &Town, wish: &Wish, fate: Fate) -> bool {
        let ignored = town.ignored_by(&town.people[self.who].id);
        if ignored != self.ignored {
            self.reset();
            self.ignored = ignored;
        }
        let (status, answer) = self.ask(town, self.body(wish)).await;
        if status == 400 && answer["errcode"] == "M_UNKNOWN_POS" && self.has_gone_back {
            self.reset();
            return true;
        }
        assert_eq!(status, 200, "{answer}");
        match fate {
            Fate::Lost => return true,
            Fate::Doubled => {
                let (status, mut again) = self.ask(town, self.body(wish)).await;
                assert_eq!(status, 200, "{again}");
                again["pos"] = answer["pos"].clone();
                assert_eq!(again, answer, "the same position");
            }
            Fate::Good => {}
        }
        let pos = answer["pos"].as_str().unwrap();
        let news = self.pos.as_deref() != Some(pos);
        self.take(town, &answer);
        self.pos = Some(pos.to_owned());
        news
    }

    async fn ask(&self, town: &Town, mut body: Value) -> (u16, Value) {
        let token = &town.people[self.who].devices[self.device].1;
        let request = match self.is_final {
            true => {
                body["pos"] = self.pos.clone().into();
                String::from("POST /_matrix/client/v4/sync")
            }
            false => {
                let query = self.pos.as_ref().map_or(String::new(), |pos| format!("?pos={pos}"));
                format!("POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync{query}")
            }
        };
        town.ask_on(token, &request, body).await
    }

    fn take(&mut self, town: &Town, answer: &Value) {
        let user = &town.people[self.who].id;
        let extensions = &answer["extensions"];
        let to_device = &extensions["to_device"];
        self.since = Some(to_device["next_batch"].as_str().unwrap().to_owned());
        for message in to_device["events"].as_array().into_iter().flatten() {
            let number = message["content"]["n"].as_u64().unwrap();
            if !(self.has_gone_back && self.messages.contains(&number)) {
                self.messages.push(number);
            }
        }
        for event in extensions["account_data"]["global"].as_array().into_iter().flatten() {
            self.data.insert(event["type"].as_str().unwrap().to_owned(), event["content"].clone());
        }
        if extensions["e2ee"].is_object() {
            let begins = self.devices.is_none();
            let known = self.devices.get_or_insert_default();
            note_devices(town, (user, begins), &extensions["e2ee"]["device_lists"], known);
        }
        self.faces.slide(&extensions[PROFILES]["users"]);
        if let Some(next) = extensions[STICKY]["next_batch"].as_str() {
            self.sticky_since = Some(next.to_owned());
        }
        let beside = extensions[STICKY]["rooms"].as_object().into_iter().flat_map(|rooms| rooms.values());
        let timelines = answer["rooms"].as_object().into_iter().flat_map(|rooms| rooms.values());
        let told = beside.map(|room| &room["events"]).chain(timelines.map(|room| &room["timeline"]));
        for event in told.filter_map(Value::as_array).flatten() {
            if event["msc4354_sticky"].is_object() {
                self.sticky.insert(event["event_id"].as_str().unwrap().to_owned());
            }
        }
        for (id, update) in answer["rooms"].as_object().into_iter().flatten() {
            if update["initial"] == true {
                self.rooms.insert(id.clone(), Known::default());
            }
            let known = self.rooms.get_mut(id).unwrap_or_else(|| panic!("{id} does not begin: {update}"));
            take_room(known, update, (user, self.lazy));
        }
        let by_room = |name: &str| extensions[name]["rooms"].as_object().cloned().unwrap_or_default();
        for (id, event) in by_room("typing") {
            self.rooms.get_mut(&id).unwrap().set_typing(&event["content"]);
        }
        for (id, event) in by_room("receipts") {
            self.rooms.get_mut(&id).unwrap().add_receipts(&event["content"]);
        }
        for (id, events) in by_room("account_data") {
            let known = self.rooms.get_mut(&id).unwrap();
            events.as_array().unwrap().iter().for_each(|event| known.add_data(event));
        }
    }

    /// Asks until there is no news, and compares what it believes with what happened.
    pub(super) async fn settle(&mut self, town: &Town) {
        while self.poll(town, &Wish::everything(), Fate::Good).await {}
        let person = &town.people[self.who];
        let (user, device) = (&*person.id, &person.devices[self.device].0);
        let wanted = town.inbox.get(&(user.to_owned(), device.clone())).cloned().unwrap_or_default();
        assert_eq!(self.messages, wanted, "messages to {device}");
        compare_data(town, (user, ""), &self.data);
        compare_devices(town, user, self.devices.as_ref().unwrap());
        self.faces.compare(town, user, self.lazy);
        let with = |membership: &str| -> BTreeSet<String> {
            let rooms = town.rooms.iter().filter(|room| room.member(user) == membership);
            rooms.map(|room| room.id.clone()).collect()
        };
        let believed = |membership: &str| -> BTreeSet<String> {
            let rooms = self.rooms.iter().filter(|(_, known)| known.membership == membership);
            rooms.map(|(id, _)| id.clone()).collect()
        };
        assert_eq!(believed("join"), with("join"), "rooms of {device}");
        compare_invites(town, user, &believed("invite"));
        assert_eq!(believed("knock"), with("knock"), "knocks of {device}");
        for room in town.rooms.iter().filter(|room| room.member(user) == "join") {
            let (known, look) = (&self.rooms[&room.id], Look::new(town, self.who, room));
            known.compare_timeline(&look, None).await;
            known.compare_state(&look, self.lazy);
            known.compare_members(&look);
            known.compare_receipts(&look, false);
            known.compare_rest(&look);
            let wanted = room.ids((0..room.events.len()).filter(|at| look.sticks(*at)));
            let lacks: Vec<_> = wanted.iter().filter(|id| !self.sticky.contains(*id)).collect();
            assert!(lacks.is_empty(), "{lacks:?} stick: {}", look.name());
            if !self.is_final {
                known.compare_counts(&look, false);
            }
        }
        self.compare_order(town).await;
    }

    /// A list has the user's rooms, and a window the first of them: those with the latest activity.
    async fn compare_order(&self, town: &Town) {
        let user = &*town.people[self.who].id;
        let shown = |room: &&Room| {
            let Some(at) = room.member_event(user) else { return false };
            match room.member(user) {
                "join" | "knock" => true,
                "invite" => !is_overlooked(town, user, &room.id),
                // Who was taken out of a room is told so, or that they may not come back, until they forget it.
                other => {
                    let Some((_, end)) = room.stays(user).last().copied() else { return false };
                    let was_put_out = end == Some(at) && room.events[at].sender != user;
                    (was_put_out || other == "ban") && !town.has_forgotten(user, &room.id)
                }
            }
        };
        let activity = |room: &&Room| {
            let last = match room.member(user) {
                "join" => room.events.last(),
                _ => room.member_event(user).map(|at| &room.events[at]),
            };
            std::cmp::Reverse(last.map(|event| event.tick))
        };
        let mut rooms: Vec<_> = town.rooms.iter().filter(shown).collect();
        rooms.sort_by_key(activity);
        let data = |room: &str, kind: &str| {
            let of = (user.to_owned(), room.to_owned(), String::from(kind));
            town.data.get(&of).cloned().unwrap_or_default()
        };
        let direct = data("", "m.direct").to_string();
        let is_direct = |room: &&Room| direct.contains(&room.id);
        let is_invite = |room: &&Room| room.member(user) == "invite";
        let is_tagged =
            |room: &&Room| !is_invite(room) && data(&room.id, "m.tag")["tags"].get("u.1").is_some();
        for count in 1..=rooms.len() {
            let fresh = Self { pos: None, conn: String::from("order"), since: None, ..self.clone() };
            let list = json!({ "ranges": [[0, count - 1]], "timeline_limit": 1, "required_state": [] });
            let (mut direct, mut tagged, mut invites) = (list.clone(), list.clone(), list.clone());
            direct["filters"] = json!({ "is_dm": true });
            tagged["filters"] = json!({ "tags": ["u.1"], "is_invite": false });
            invites["filters"] = json!({ "is_invite": true });
            let counts = json!({ "a": list, "b": direct, "c": tagged, "d": invites });
            let (_, counted) = fresh.ask(town, json!({ "conn_id": "order", "lists": counts })).await;
            let wanted = [
                ("b", rooms.iter().filter(|room| is_direct(room)).count()),
                ("c", rooms.iter().filter(|room| is_tagged(room)).count()),
                ("d", rooms.iter().filter(|room| is_invite(room)).count()),
            ];
            for (name, wanted) in wanted {
                assert_eq!(counted["lists"][name]["count"], wanted, "{name}: {user} {counted}");
            }
            let body = json!({ "conn_id": "order", "lists": { "a": list } });
            let (status, answer) = fresh.ask(town, body).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["lists"]["a"]["count"], rooms.len(), "rooms of {user}");
            let found: BTreeSet<&str> =
                answer["rooms"].as_object().unwrap().keys().map(String::as_str).collect();
            let wanted: BTreeSet<&str> = rooms[..count].iter().map(|room| &*room.id).collect();
            assert_eq!(found, wanted, "the first {count} rooms of {user}");
        }
    }
}

fn take_room(known: &mut Known, update: &Value, (user, lazy): (&str, bool)) {
    let flags = ["initial", "expanded_timeline", "unstable_expanded_timeline"];
    let anew = flags.iter().any(|flag| update[*flag] == true);
    let is_limited = update["limited"] == true;
    if is_limited && lazy {
        // A client that is shown a gap takes no member for known.
        known.state.retain(|(kind, _), _| kind != "m.room.member");
    }
    known.add_state(&update["required_state"]);
    for event in update["required_state"].as_array().into_iter().flatten() {
        if event["type"] == "m.room.member" && event["state_key"] == user {
            event["content"]["membership"].as_str().unwrap().clone_into(&mut known.membership);
        }
    }
    for stripped in ["invite_state", "stripped_state"] {
        let events = update[stripped].as_array().into_iter().flatten();
        let own = |event: &&Value| event["type"] == "m.room.member" && event["state_key"] == user;
        if let Some(event) = events.into_iter().find(own) {
            event["content"]["membership"].as_str().unwrap().clone_into(&mut known.membership);
        }
    }
    if let Some(membership) = update["membership"].as_str() {
        membership.clone_into(&mut known.membership);
    }
    if anew {
        known.pieces.clear();
    }
    let has_events = update["timeline"].as_array().is_some_and(|events| !events.is_empty());
    if is_limited || has_events {
        known.add_timeline(&update["timeline"], is_limited, &update["prev_batch"]);
    } else if anew {
        known.pieces.push(Piece::Gap(update["prev_batch"].as_str().map(String::from)));
    }
    if update["notification_count"].is_u64() {
        known.main = tally(update);
    }
    known.joined = update["joined_count"].as_u64().or(known.joined);
    known.invited = update["invited_count"].as_u64().or(known.invited);
}
