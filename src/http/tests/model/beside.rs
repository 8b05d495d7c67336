//! What is told of a room beside its timeline and its state: previews, stripped state, names of members, what sticks, and
//! what came by the endpoints from before `/sync`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    sight::{Look, ids, quoted},
    town::Town,
};

/// The types of the state that whoever is invited, or knocks, is told of.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub(super) const TELLING: [&str; 8] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.encryption",
    "m.room.canonical_alias",
    "m.room.history_visibility",
    "m.room.avatar",
    "m.room.topic",
];
pub(super) const STICKY: &str = "org.matrix.msc4354.sticky_events";

impl Look<'_> {
    /// What is told of a room to those who may not be in it.
    pub(super) async fn check_preview(&self) {
        let may = self.may_preview();
        let summary = format!("GET /_matrix/client/v1/room_summary/{}", self.room.id);
        for (request, refusal) in [(summary, 404), (self.path_v1("hierarchy"), 403)] {
            let (status, answer) = self.ask(&request).await;
            assert_eq!(status, if may { 200 } else { refusal }, "{request}: {} {answer}", self.name());
            match refusal {
                _ if !may => {}
                404 => self.check_summary(&request, &answer),
                _ => self.check_tree(&request, &answer["rooms"]),
            }
        }
    }

    fn may_preview(&self) -> bool {
        self.room.is_open() || matches!(self.room.member(self.user), "join" | "invite")
    }

    fn check_summary(&self, request: &str, told: &Value) {
        assert_eq!(told["room_id"], *self.room.id, "{request}: {told}");
        assert_eq!(told["num_joined_members"], self.room.joined().len(), "{request}: {told}");
        let name = self.room.now("m.room.name").map_or(&Value::Null, |content| &content["name"]);
        assert_eq!(&told["name"], name, "{request}: {told}");
    }

    /// A room and what is below it: of each what a preview tells, and none that the user may not preview.
    fn check_tree(&self, request: &str, told: &Value) {
        let told = told.as_array().unwrap();
        assert_eq!(told[0]["room_id"], *self.room.id, "{request}: {told:?}");
        let look = |id: &str| {
            let room = self.town.rooms.iter().find(|room| room.id == id);
            room.map(|room| Look::new(self.town, self.who, room))
        };
        let mut below = BTreeSet::new();
        for told in told {
            let look = look(told["room_id"].as_str().unwrap()).unwrap();
            assert!(look.may_preview(), "{request}: {} {told}", look.name());
            look.check_summary(request, told);
            let wanted = look.room.children_of_space();
            assert_eq!(children(&told["children_state"]), wanted, "{request}: {}", look.name());
            below.extend(wanted.into_keys());
        }
        let found: BTreeSet<&str> = told.iter().map(|told| told["room_id"].as_str().unwrap()).collect();
        for id in below.iter().filter(|id| look(id).is_some_and(|look| look.may_preview())) {
            assert!(found.contains(&**id), "{request}: {} lacks {id}", self.name());
        }
    }

    /// What is told to somebody who is invited, or knocks: the state of then that says what kind of room it is, and who says
    /// so; to nobody else.
    pub(super) fn check_stripped(&self, membership: &str, told: &Value) {
        let context = || format!("{}: {told}", self.name());
        let Some(told) = told.as_array() else { return };
        assert!(matches!(membership, "invite" | "knock"), "{}", context());
        assert_eq!(self.room.member(self.user), membership, "{}", context());
        let at = self.room.member_event(self.user).unwrap();
        let sender = &*self.room.events[at].sender;
        let mut wanted: BTreeMap<(&str, &str), usize> = self.room.state_before(at);
        wanted.retain(|(kind, key), _| {
            TELLING.contains(kind) && key.is_empty() || (*kind, *key) == ("m.room.member", sender)
        });
        wanted.insert(("m.room.member", self.user), at);
        let mut found = BTreeSet::new();
        for event in told {
            let key = (event["type"].as_str().unwrap(), event["state_key"].as_str().unwrap());
            let at = *wanted.get(&key).unwrap_or_else(|| panic!("{key:?} is told: {}", context()));
            let known = &self.room.events[at];
            assert_eq!(event["sender"], *known.sender, "{}", context());
            // What has been redacted since is what it was then; of people who are gone only the names are taken away.
            let is_member = key.0 == "m.room.member";
            let is_right = match (is_member && self.is_kept(at), known.redacted) {
                (true, _) => known.is_bare(&event["content"]),
                (false, Some(_)) => event["content"] == known.content || known.is_bare(&event["content"]),
                (false, None) => event["content"] == known.content,
            };
            assert!(is_right, "{event}: {}", context());
            found.insert(key);
        }
        assert!(wanted.keys().all(|key| found.contains(key)), "{wanted:?}: {}", context());
    }

    /// What members are called.
    pub(super) async fn check_names(&self) {
        let request = self.path("joined_members");
        let (status, answer) = self.ask(&request).await;
        if self.room.member(self.user) != "join" {
            assert_eq!(status, 403, "{request}: {} {answer}", self.name());
            return;
        }
        let joined = answer["joined"].as_object().unwrap();
        let found: BTreeSet<&str> = joined.keys().map(String::as_str).collect();
        assert_eq!(found, self.room.joined(), "{}", self.name());
        for (user, told) in joined {
            self.check_name((&request, &told["display_name"]), user, self.room.events.len());
        }
    }

    /// A name is the one that `user` had before the event at `upto`, or none if the one who looks came too late for it.
    fn check_name(&self, (request, told): (&str, &Value), user: &str, upto: usize) {
        let at = self.room.events[..upto]
            .iter()
            .rposition(|event| event.kind == "m.room.member" && event.key.as_deref() == Some(user));
        let at = at.unwrap_or_else(|| panic!("{request}: {user} is no member: {}", self.name()));
        let name = &self.room.events[at].content["displayname"];
        let is_right = match self.is_kept(at) {
            true => told.is_null() || (self.is_abroad() && told == name),
            false => told == name,
        };
        assert!(is_right, "{request}: {} is told that {user} is called {told}", self.name());
    }

    /// What came by `/events`, from the beginning on.
    pub(super) async fn check_news(&self) {
        let (mut found, mut from) = (Vec::new(), String::from("t0"));
        loop {
            let request = format!("GET /events?room_id={}&from={from}", self.room.id);
            let page = self.get(&request).await;
            self.check_served(&request, &page["chunk"], false);
            let new = ids(&page["chunk"]);
            if new.is_empty() {
                break;
            }
            found.extend(new);
            page["end"].as_str().unwrap().clone_into(&mut from);
        }
        assert_eq!(found, self.room.ids(self.timeline.iter().copied()), "/events: {}", self.name());
    }

    /// The state of a room in which something was found.
    pub(super) fn check_found_state(&self, state: &Value) {
        let Some(until) = self.until.filter(|_| !state.is_null()) else {
            assert!(state.is_null(), "{}: {state}", self.name());
            return;
        };
        self.check_served("search", state, true);
        let found: BTreeSet<String> = ids(state).into_iter().collect();
        let wanted = self.room.ids(self.room.state_before(until).into_values());
        assert_eq!(found, wanted.into_iter().collect(), "the state with what was found: {}", self.name());
    }

    /// What those are called who are shown with something that was found: as of the newest event there.
    pub(super) fn check_found_people(&self, result: &Value) {
        let context = &result["context"];
        let shown = ids(&context["events_before"]).into_iter().chain(ids(&context["events_after"]));
        let shown = shown.chain([result["result"]["event_id"].as_str().unwrap().to_owned()]);
        let Some(newest) = shown.filter_map(|id| self.room.place(&id)).max() else { return };
        // Nobody but erased users may be shown.
        for (user, told) in context["profile_info"].as_object().into_iter().flatten() {
            self.check_name(("search", &told["displayname"]), user, newest + 1);
        }
    }
}

/// What is told of the rooms of a space: by id, what the space says of each.
pub(super) fn children(told: &Value) -> BTreeMap<String, Value> {
    let child = |event: &Value| {
        assert_eq!(event["type"], "m.space.child", "{told}");
        (event["state_key"].as_str().unwrap().to_owned(), event["content"].clone())
    };
    told.as_array().unwrap().iter().map(child).collect()
}

/// What came by `/events` without a room: as much as an old client missed.
pub(super) async fn check_old_news(town: &Town, who: usize, looks: &[Look<'_>]) {
    let request = "GET /events?from=t0";
    let answer = town.get(who, request).await;
    for look in looks {
        look.check_served(request, &answer["chunk"], true);
    }
}

/// What sticks is told by each kind of sync, in the timeline or beside it.
pub(super) async fn check_sticky(town: &Town, who: usize, looks: &[Look<'_>]) {
    let filter = json!({ "room": { "timeline": { "limit": 1 } } }).to_string();
    let synced = town.get(who, &format!("GET /sync?filter={}", quoted(&filter))).await;
    let list = json!({ "ranges": [[0, 99]], "timeline_limit": 1, "required_state": [] });
    let body = json!({ "lists": { "a": list }, "extensions": { STICKY: { "enabled": true } } });
    let mut slid = Vec::new();
    for path in ["v4/sync", "unstable/org.matrix.simplified_msc3575/sync"] {
        let (status, answer) = town.ask(who, &format!("POST /_matrix/client/{path}"), body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        slid.push(answer);
    }
    for look in looks {
        let id = &look.room.id;
        let update = &synced["rooms"]["join"][id];
        look.check_sticky((&update["timeline"]["events"], &update["msc4354_sticky"]["events"]));
        for slid in &slid {
            let sticky = &slid["extensions"][STICKY]["rooms"][id]["events"];
            look.check_sticky((&slid["rooms"][id]["timeline"], sticky));
        }
    }
}

impl Look<'_> {
    fn check_sticky(&self, (timeline, beside): (&Value, &Value)) {
        self.check_served("a sync's timeline", timeline, false);
        self.check_served("what sticks", beside, false);
        let beside = ids(beside);
        if self.room.member(self.user) != "join" {
            assert!(beside.is_empty(), "{}: {beside:?}", self.name());
            return;
        }
        for id in &beside {
            let at = self.room.place(id).unwrap();
            assert!(self.room.events[at].sticks && self.is_heard(at), "{} is told {id}", self.name());
        }
        let found: BTreeSet<String> = ids(timeline).into_iter().chain(beside).collect();
        let wanted = self.room.ids((0..self.room.events.len()).filter(|at| self.sticks(*at)));
        assert!(wanted.iter().all(|id| found.contains(id)), "{} lacks of {wanted:?}", self.name());
    }

    /// Whether somebody who is in the room is told of an event for as long as it sticks.
    pub(super) fn sticks(&self, at: usize) -> bool {
        let event = &self.room.events[at];
        event.sticks && event.redacted.is_none() && self.is_heard(at) && self.gets(at)
    }

    fn is_heard(&self, at: usize) -> bool {
        self.room.is_heard(at, &self.ignored)
    }
}
