//! A client of `/v3/sync`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    faces::{FIELDS, Faces},
    known::{Known, compare_data, tally},
    sight::{Look, quoted},
    town::Town,
};

/// The names of the state in an answer, by dialect.
const STATES: [&str; 3] = ["state", "state_after", "org.matrix.msc4222.state_after"];

#[derive(Clone, Default)]
pub(super) struct Follower {
    who: usize,
    device: usize,
    /// Which of [`STATES`] it asks for.
    dialect: usize,
    lazy: bool,
    /// Events of this type it does not want.
    unwanted: Option<&'static str>,
    by_thread: bool,
    since: Option<String>,
    rooms: BTreeMap<String, Known>,
    invites: BTreeSet<String>,
    knocks: BTreeSet<String>,
    messages: Vec<u64>,
    data: BTreeMap<String, Value>,
    /// Whose devices it follows, and as of when.
    devices: BTreeMap<String, u64>,
    faces: Faces,
    ignored: BTreeSet<String>,
    /// It has gone back to what it had before, or to nothing: messages to the device may come again.
    has_gone_back: bool,
}

/// How a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// The answer is lost.
    Lost,
    /// The answer comes twice.
    Doubled,
}

impl Follower {
    pub(super) fn all() -> Vec<Self> {
        vec![
            Self { who: 0, by_thread: true, ..Self::default() },
            Self { who: 1, dialect: 1, ..Self::default() },
            Self { who: 1, device: 1, unwanted: Some("m.reaction"), ..Self::default() },
            Self { who: 2, by_thread: true, lazy: true, ..Self::default() },
            Self { who: 3, dialect: 2, lazy: true, unwanted: Some("m.room.message"), ..Self::default() },
        ]
    }

    /// Begins anew; messages to the device it keeps.
    pub(super) fn reset(&mut self) {
        let Self { who, device, dialect, lazy, unwanted, by_thread, ref mut messages, .. } = *self;
        let messages = std::mem::take(messages);
        *self = Self {
            who,
            device,
            dialect,
            lazy,
            unwanted,
            by_thread,
            messages,
            has_gone_back: true,
            ..Self::default()
        };
    }

    /// Goes back to what it was before.
    pub(super) fn go_back(&mut self, before: Self) {
        let messages = std::mem::take(&mut self.messages);
        *self = Self { messages, has_gone_back: true, ..before };
    }

    /// One request. Says whether there was news.
    pub(super) async fn poll(&mut self, town: &Town, (limit, full): (usize, bool), fate: Fate) -> bool {
        let user = &town.people[self.who].id;
        let ignored = town.ignored_by(user);
        if ignored != self.ignored {
            // "To receive the events that were sent while the user was ignored the client should perform a
            // fresh sync."
            self.reset();
            self.ignored = ignored;
        }
        let filter = json!({ "room": {
            "timeline": { "limit": limit, "unread_thread_notifications": self.by_thread,
                "not_types": self.unwanted.into_iter().collect::<Vec<_>>() },
            "state": { "lazy_load_members": self.lazy },
        }, "org.matrix.msc4429.profile_fields": { "ids": FIELDS } });
        let mut request = format!("GET /sync?filter={}", quoted(&filter.to_string()));
        request += ["", "&use_state_after=true", "&org.matrix.msc4222.use_state_after=true"][self.dialect];
        if let Some(since) = &self.since {
            request += &format!("&since={since}");
        }
        if full {
            request += "&full_state=true";
        }
        let token = &town.people[self.who].devices[self.device].1;
        let (status, answer) = town.ask_on(token, &request, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        match fate {
            Fate::Lost => return true,
            Fate::Doubled => {
                let (_, again) = town.ask_on(token, &request, Value::Null).await;
                assert_eq!(again, answer, "the same token: {request}");
            }
            Fate::Good => {}
        }
        let next = answer["next_batch"].as_str().unwrap();
        if let Some(since) = &self.since {
            let request = format!("GET /keys/changes?from={since}&to={next}");
            let (status, changes) = town.ask_on(token, &request, Value::Null).await;
            assert_eq!(status, 200, "{changes}");
            for list in ["changed", "left"] {
                let told = answer["device_lists"].get(list).cloned().unwrap_or(json!([]));
                assert_eq!(changes[list], told, "{request}: {answer}");
            }
        }
        let news = self.since.as_deref() != Some(next);
        self.take(town, &answer);
        self.since = Some(next.to_owned());
        news
    }

    fn take(&mut self, town: &Town, answer: &Value) {
        let user = &town.people[self.who].id;
        for message in answer["to_device"]["events"].as_array().into_iter().flatten() {
            let number = message["content"]["n"].as_u64().unwrap();
            if !(self.has_gone_back && self.messages.contains(&number)) {
                self.messages.push(number);
            }
        }
        for event in answer["account_data"]["events"].as_array().into_iter().flatten() {
            self.data.insert(event["type"].as_str().unwrap().to_owned(), event["content"].clone());
        }
        self.faces.follow(&answer["org.matrix.msc4429.users"]);
        note_devices(town, (user, self.since.is_none()), &answer["device_lists"], &mut self.devices);
        let section = |name: &str| answer["rooms"][name].as_object().cloned().unwrap_or_default();
        for (id, invited) in section("invite") {
            let events = invited["invite_state"]["events"].as_array().unwrap();
            assert!(events.iter().any(|event| event["state_key"] == **user), "{invited}");
            if let Some(known) = self.rooms.get_mut(&id) {
                // How the stay ended is of no interest any more.
                known.membership = String::from("invite");
                known.typing.clear();
            }
            self.knocks.remove(&id);
            self.invites.insert(id);
        }
        for (id, knocked) in section("knock") {
            let events = knocked["knock_state"]["events"].as_array().unwrap();
            assert!(events.iter().any(|event| event["state_key"] == **user), "{knocked}");
            self.invites.remove(&id);
            self.knocks.insert(id);
        }
        for (id, update) in section("leave") {
            self.invites.remove(&id);
            self.knocks.remove(&id);
            let events = update["timeline"]["events"].as_array().into_iter().flatten();
            let joins =
                |event: &Value| event["state_key"] == **user && event["content"]["membership"] == "join";
            let was_in = self.rooms.get(&id).is_some_and(|known| known.membership == "join");
            let is_stay = was_in || update["timeline"]["limited"] == true || events.clone().any(joins);
            if is_stay {
                let known = self.rooms.entry(id).or_default();
                take_room(known, &update, STATES[self.dialect]);
                known.membership = String::from("leave");
                known.typing.clear();
            }
        }
        for (id, update) in section("join") {
            self.invites.remove(&id);
            self.knocks.remove(&id);
            let known = self.rooms.entry(id).or_default();
            let has_own = |events: &Value| {
                events
                    .as_array()
                    .is_some_and(|events| events.iter().any(|event| event["state_key"] == **user))
            };
            let (timeline, state) = (&update["timeline"], &update[STATES[self.dialect]]["events"]);
            let comes_back = timeline["limited"] == true && (has_own(&timeline["events"]) || has_own(state));
            if self.lazy && comes_back {
                // Whom a client that loads members when it needs them knew from before, it does not know.
                known.state.retain(|(kind, _), _| kind != "m.room.member");
            }
            take_room(known, &update, STATES[self.dialect]);
            known.membership = String::from("join");
        }
    }

    /// Asks until there is no news, and compares what it believes with what happened.
    pub(super) async fn settle(&mut self, town: &Town) {
        while self.poll(town, (3, false), Fate::Good).await {}
        let person = &town.people[self.who];
        let user = &*person.id;
        let device = &person.devices[self.device].0;
        let wanted = town.inbox.get(&(user.to_owned(), device.clone())).cloned().unwrap_or_default();
        assert_eq!(self.messages, wanted, "messages to {device}");
        compare_data(town, (user, ""), &self.data);
        compare_devices(town, user, &self.devices);
        self.faces.compare(town, user, self.lazy);
        let with = |membership: &str| -> BTreeSet<String> {
            let rooms = town.rooms.iter().filter(|room| room.member(user) == membership);
            rooms.map(|room| room.id.clone()).collect()
        };
        let joined: BTreeSet<String> = self
            .rooms
            .iter()
            .filter(|(_, known)| known.membership == "join")
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(joined, with("join"), "rooms of {device}");
        compare_invites(town, user, &self.invites);
        assert_eq!(self.knocks, with("knock"), "knocks of {device}");
        for room in &town.rooms {
            let Some(known) = self.rooms.get(&room.id) else { continue };
            let look = Look::new(town, self.who, room);
            let is_left = known.membership == "leave" && matches!(room.member(user), "leave" | "ban");
            if known.membership != "join" && (!is_left || town.has_forgotten(user, &room.id)) {
                continue;
            }
            known.compare_timeline(&look, self.unwanted).await;
            known.compare_state(&look, self.lazy);
            if known.membership == "join" {
                known.compare_members(&look);
                known.compare_receipts(&look, true);
                known.compare_rest(&look);
                known.compare_counts(&look, self.by_thread);
            }
        }
    }
}

/// Whether the invite that somebody has is of someone whom they ignore.
pub(super) fn is_overlooked(town: &Town, user: &str, room: &str) -> bool {
    let room = town.rooms.iter().find(|other| other.id == room).unwrap();
    let inviter = room.member_event(user).map(|at| room.events[at].sender.as_str());
    inviter.is_some_and(|inviter| town.ignored_by(user).contains(inviter))
}

/// The invites of a user are known. Where somebody whom they ignore has invited them again, they know of the older one or
/// of none.
pub(super) fn compare_invites(town: &Town, user: &str, known: &BTreeSet<String>) {
    let rooms = town.rooms.iter().filter(|room| room.member(user) == "invite").map(|room| room.id.clone());
    let (overlooked, shown): (BTreeSet<_>, BTreeSet<_>) = rooms.partition(|id| is_overlooked(town, user, id));
    assert_eq!(known.difference(&overlooked).cloned().collect::<BTreeSet<_>>(), shown, "invites of {user}");
}

fn take_room(known: &mut Known, update: &Value, state: &str) {
    known.add_state(&update[state]["events"]);
    if state == STATES[0] {
        known.add_state(&update["timeline"]["events"]);
    }
    let timeline = &update["timeline"];
    let is_limited = timeline["limited"] == true;
    if is_limited || timeline["events"].as_array().is_some_and(|events| !events.is_empty()) {
        known.add_timeline(&timeline["events"], is_limited, &timeline["prev_batch"]);
    }
    for event in update["ephemeral"]["events"].as_array().into_iter().flatten() {
        match event["type"].as_str().unwrap() {
            "m.receipt" => known.add_receipts(&event["content"]),
            "m.typing" => known.set_typing(&event["content"]),
            other => panic!("{other}"),
        }
    }
    update["account_data"]["events"].as_array().into_iter().flatten().for_each(|event| known.add_data(event));
    let counts = &update["unread_notifications"];
    if counts.is_object() {
        known.main = tally(counts);
        let threads = update["unread_thread_notifications"].as_object().cloned().unwrap_or_default();
        known.threads = threads.iter().map(|(root, counts)| (root.clone(), tally(counts))).collect();
    }
    let summary = &update["summary"];
    known.joined = summary["m.joined_member_count"].as_u64().or(known.joined);
    known.invited = summary["m.invited_member_count"].as_u64().or(known.invited);
}

/// A client looks up the devices of whom it hears, and at the beginning of all with whom it shares a room.
pub(super) fn note_devices(
    town: &Town,
    (user, begins): (&str, bool),
    lists: &Value,
    known: &mut BTreeMap<String, u64>,
) {
    let version = |user: &str| town.versions.get(user).copied().unwrap_or_default();
    if begins {
        *known = town.sharers(user).iter().map(|other| (other.clone(), version(other))).collect();
    }
    let names = |list: &str| lists[list].as_array().cloned().unwrap_or_default();
    for name in names("changed") {
        let name = name.as_str().unwrap();
        known.insert(name.to_owned(), version(name));
    }
    for name in names("left") {
        known.remove(name.as_str().unwrap());
    }
}

/// Of those with whom the user shares a room, the present devices are known; of nobody else.
pub(super) fn compare_devices(town: &Town, user: &str, known: &BTreeMap<String, u64>) {
    let version = |user: &String| town.versions.get(user).copied().unwrap_or_default();
    let wanted: BTreeMap<String, u64> =
        town.sharers(user).into_iter().map(|other| (other.clone(), version(&other))).collect();
    let mut known = known.clone();
    known.remove(user);
    assert_eq!(known, wanted, "the devices that {user} knows");
}
