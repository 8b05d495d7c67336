//! What each endpoint serves of a room to a user, against what the plain list permits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    beside::{check_old_news, check_sticky},
    glance::check_first_syncs,
    ledger::Room,
    town::Town,
};

/// Where somebody stands who looks into a room.
pub(super) struct Look<'a> {
    pub(super) town: &'a Town,
    pub(super) who: usize,
    pub(super) user: &'a str,
    pub(super) room: &'a Room,
    pub(super) ignored: BTreeSet<String>,
    /// How far they may look, if at all.
    pub(super) until: Option<usize>,
    /// What they find, oldest first.
    pub(super) timeline: Vec<usize>,
    /// Whether their server has everything that they may see, or gets it when they look back.
    pub(super) is_whole: bool,
}

/// Has the server percent-encoded what does not go into a query.
pub(super) fn quoted(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The ids of events in a list.
pub(super) fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    events.map(|event| event["event_id"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned()).collect()
}

impl<'a> Look<'a> {
    pub(super) fn new(town: &'a Town, who: usize, room: &'a Room) -> Self {
        let user = &*town.people[who].id;
        let ignored = town.ignored_by(user);
        let until = room.until(user, town.has_forgotten(user, &room.id));
        let timeline = room.timeline(user, until.unwrap_or_default(), &ignored);
        Self { town, who, user, room, ignored, until, timeline, is_whole: town.abroad.is_none() }
    }

    pub(super) fn name(&self) -> String {
        format!("{} in {}", self.user, self.room.id)
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("GET /rooms/{}/{rest}", self.room.id)
    }

    pub(super) fn path_v1(&self, rest: &str) -> String {
        format!("GET /_matrix/client/v1/rooms/{}/{rest}", self.room.id)
    }

    pub(super) async fn get(&self, request: &str) -> Value {
        self.town.get(self.who, request).await
    }

    pub(super) async fn ask(&self, request: &str) -> (u16, Value) {
        self.town.ask(self.who, request, Value::Null).await
    }

    /// All endpoints that look into a room.
    pub(super) async fn check(&self) {
        self.glance().await;
        let Some(until) = self.until else {
            self.check_closed().await;
            return;
        };
        self.check_messages(until).await;
        self.check_news().await;
        self.check_state(until).await;
        for at in 0..self.room.events.len() {
            self.check_event(at).await;
            if at % 5 == self.who {
                self.check_context(at).await;
            }
            self.check_relations(at).await;
        }
        self.check_threads().await;
        self.check_times().await;
    }

    /// Whoever may not look into a room is told nothing.
    async fn check_closed(&self) {
        let paths = ["messages?dir=b", "members", "joined_members", "state", "state/m.room.create/"];
        for path in paths {
            let (status, answer) = self.ask(&self.path(path)).await;
            assert_eq!(status, 403, "{path}: {} {answer}", self.name());
        }
        let path = format!("GET /events?from=t0&room_id={}", self.room.id);
        assert_eq!(self.ask(&path).await.0, 403, "{path}: {}", self.name());
        for path in ["threads", "timestamp_to_event?dir=f&ts=0"] {
            assert_eq!(self.ask(&self.path_v1(path)).await.0, 403, "{path}: {}", self.name());
        }
        for event in &self.room.events {
            let context = self.path(&format!("context/{}", event.id));
            let alone = format!("GET /events/{}", event.id);
            for path in [self.path(&format!("event/{}", event.id)), alone, context] {
                let (status, answer) = self.ask(&path).await;
                assert!(status == 403 || status == 404, "{path}: {} {answer}", self.name());
            }
        }
    }

    async fn check_messages(&self, until: usize) {
        let wanted = self.room.ids(self.timeline.iter().copied());
        for (dir, limit) in [("b", 1 + self.who * 4), ("f", 7 + until % 5)] {
            let (mut found, mut from) = (Vec::new(), String::new());
            loop {
                let request = self.path(&format!("messages?dir={dir}&limit={limit}{from}"));
                let page = self.get(&request).await;
                self.check_served(&request, &page, false);
                page["chunk"].as_array().unwrap().iter().for_each(|event| self.check_told(event));
                found.extend(ids(&page["chunk"]));
                match page["end"].as_str() {
                    Some(end) => {
                        from = format!("&from={end}");
                        self.check_members_at(end, (found.last(), dir == "b", until)).await;
                    }
                    None => break,
                }
            }
            if dir == "b" {
                found.reverse();
            }
            assert_eq!(found, wanted, "messages, {dir}: {}", self.name());
        }
    }

    /// Who were members at the end of a page: as they were if the user may see the event before it.
    async fn check_members_at(
        &self,
        token: &str,
        (last, is_backward, until): (Option<&String>, bool, usize),
    ) {
        let Some(last) = last.and_then(|id| self.room.place(id)) else { return };
        let upto = if is_backward { last } else { last + 1 };
        // Before everything there was nobody, which whoever sees the beginning may know.
        let was_seen = self.room.sees(self.user, upto.saturating_sub(1));
        let state = self.room.state_before(if was_seen { upto } else { until });
        let members = state.into_iter().filter(|((kind, _), _)| *kind == "m.room.member");
        let members: BTreeSet<String> = self.room.ids(members.map(|(_, at)| at)).into_iter().collect();
        let request = self.path(&format!("members?at={token}"));
        let answer = self.get(&request).await;
        self.check_served(&request, &answer, true);
        let found: BTreeSet<String> = ids(&answer["chunk"]).into_iter().collect();
        assert_eq!(found, members, "members at {token}: {}", self.name());
    }

    /// The state where the user's view of the room ends.
    pub(super) async fn check_state(&self, until: usize) {
        let state = self.room.state_before(until);
        let sorted = |mut ids: Vec<String>| {
            ids.sort();
            ids
        };
        let wanted = sorted(self.room.ids(state.values().copied()));
        let request = self.path("state");
        let answer = self.get(&request).await;
        self.check_served(&request, &answer, true);
        assert_eq!(sorted(ids(&answer)), wanted, "state: {}", self.name());
        let members = state.iter().filter(|((kind, _), _)| *kind == "m.room.member").map(|(_, at)| *at);
        let members = sorted(self.room.ids(members));
        let answer = self.get(&self.path("members")).await;
        self.check_served("members", &answer, true);
        assert_eq!(sorted(ids(&answer["chunk"])), members, "members: {}", self.name());
        for ((kind, key), at) in state.iter().step_by(3) {
            let path = self.path(&format!("state/{kind}/{key}"));
            self.check_content(&path, *at, &self.get(&path).await);
            let answer = self.get(&format!("{path}?format=event")).await;
            self.check_served(&path, &answer, true);
            assert_eq!(answer["event_id"], *self.room.events[*at].id, "{path}");
        }
        self.check_names().await;
    }

    async fn check_event(&self, at: usize) {
        let event = &self.room.events[at];
        for request in [self.path(&format!("event/{}", event.id)), format!("GET /events/{}", event.id)] {
            let (status, answer) = self.ask(&request).await;
            if self.timeline.contains(&at) {
                assert_eq!(status, 200, "{request}: {} {answer}", self.name());
                self.check_told(&answer);
            }
            if status == 200 {
                assert_eq!(answer["event_id"], *event.id);
                self.check_served(&request, &answer, false);
            }
        }
    }

    async fn check_context(&self, at: usize) {
        let limit = 1 + at % 6;
        let request = self.path(&format!("context/{}?limit={limit}", self.room.events[at].id));
        let (status, answer) = self.ask(&request).await;
        if !self.timeline.contains(&at) {
            assert!(status == 404 || self.room.sees(self.user, at), "{request}: {} {answer}", self.name());
            return;
        }
        assert_eq!(status, 200, "{request}: {} {answer}", self.name());
        let before = self.timeline.iter().copied().filter(|other| *other < at).rev().take(limit / 2);
        let after = self.timeline.iter().copied().filter(|other| *other > at).take(limit - limit / 2);
        let after: Vec<usize> = after.collect();
        assert_eq!(ids(&answer["events_before"]), self.room.ids(before), "{request}: {}", self.name());
        assert_eq!(ids(&answer["events_after"]), self.room.ids(after.clone()), "{request}: {}", self.name());
        // "The state of the room at the last event returned."
        let state = self.room.state_before(after.last().unwrap_or(&at) + 1);
        let wanted: BTreeSet<String> = self.room.ids(state.into_values()).into_iter().collect();
        assert_eq!(ids(&answer["state"]).into_iter().collect::<BTreeSet<_>>(), wanted, "{request}");
        for part in ["events_before", "event", "events_after"] {
            self.check_served(&request, &answer[part], false);
        }
        self.check_served(&request, &answer["state"], true);
    }

    pub(super) async fn check_relations(&self, at: usize) {
        let id = &self.room.events[at].id;
        let children: Vec<(usize, &str)> = self.room.children(at).collect();
        if children.is_empty() || self.is_unsure(at) {
            return;
        }
        let (status, answer) = self.ask(&self.path_v1(&format!("relations/{id}?dir=f"))).await;
        if !self.timeline.contains(&at) {
            assert!(status == 404 || self.room.sees(self.user, at), "{id}: {} {answer}", self.name());
            return;
        }
        let message = "m.room.message";
        for (kind, of) in [
            ("", ""),
            ("m.thread", ""),
            ("m.annotation", ""),
            ("m.replace", ""),
            ("m.thread", message),
            ("m.annotation", "m.reaction"),
            ("m.annotation", message),
        ] {
            let path = [&**id, kind, of].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
            let limit = 1 + self.who;
            let request = self.path_v1(&format!("relations/{}?dir=f&limit={limit}", path.join("/")));
            let (mut found, mut from) = (Vec::new(), String::new());
            loop {
                let answer = self.get(&format!("{request}{from}")).await;
                self.check_served(&request, &answer, false);
                found.extend(ids(&answer["chunk"]));
                match answer["next_batch"].as_str() {
                    Some(next) => from = format!("&from={next}"),
                    None => break,
                }
            }
            let fits = |(child, how): &(usize, &str)| {
                let is_found = self.timeline.contains(child) && !self.is_kept(*child);
                let is_of = of.is_empty() || self.room.events[*child].kind == of;
                is_found && is_of && (kind.is_empty() || kind == *how)
            };
            let wanted = children.iter().filter(|child| fits(child)).map(|(child, _)| *child);
            assert_eq!(found, self.room.ids(wanted), "{request}: {}", self.name());
        }
    }

    pub(super) async fn check_threads(&self) {
        let request = self.path_v1("threads?limit=90");
        let mut answer = self.get(&request).await;
        for root in answer["chunk"].as_array_mut().into_iter().flatten() {
            self.check_root(root);
        }
        self.check_served(&request, &answer, false);
        let found: BTreeSet<String> = ids(&answer["chunk"]).into_iter().collect();
        let with_reply = |until: usize, fits: &dyn Fn(&usize) -> bool| -> BTreeSet<String> {
            let has = |root: &usize| {
                let mut replies = self.room.children(*root).filter(|(_, how)| *how == "m.thread");
                self.room.sees(self.user, *root)
                    && replies.any(|(reply, _)| fits(&reply) && !self.is_kept(reply))
            };
            self.room.ids((0..until).filter(has)).into_iter().collect()
        };
        let is_found = |at: &usize| self.timeline.contains(at);
        let must = with_reply(self.until.unwrap_or_default(), &is_found);
        let may_be = |at: &usize| self.room.sees(self.user, *at) && self.room.is_heard(*at, &self.ignored);
        let mut may = with_reply(self.room.events.len(), &may_be);
        may.extend(self.room.ids((0..self.room.events.len()).filter(|at| self.is_unsure(*at))));
        assert!(must.is_subset(&found), "threads: {}: {must:?} {found:?}", self.name());
        assert!(found.is_subset(&may), "threads: {}: {found:?} {may:?}", self.name());
    }

    /// Of who is ignored a thread has what a redaction leaves; that is put as it was.
    fn check_root(&self, root: &mut Value) {
        let Some(at) = self.room.place(root["event_id"].as_str().unwrap()) else { return };
        let known = &self.room.events[at];
        if self.room.is_heard(at, &self.ignored) || known.redacted.is_some() || self.is_kept(at) {
            return;
        }
        let is_edited = root["unsigned"]["m.relations"]["m.replace"].is_object();
        assert!(known.is_bare(&root["content"]) && !is_edited, "{}: {root}", self.name());
        root["content"] = known.content.clone();
    }

    async fn check_times(&self) {
        for at in (0..self.room.events.len()).step_by(7) {
            let ts = self.room.events[at].ts;
            for dir in ["f", "b"] {
                let request = self.path_v1(&format!("timestamp_to_event?dir={dir}&ts={ts}"));
                let (status, answer) = self.ask(&request).await;
                let times = |at: &usize| self.room.events[*at].ts;
                // Those who are ignored count or do not.
                let all = (0..self.until.unwrap_or_default()).filter(|at| self.room.sees(self.user, *at));
                let wanted = match dir {
                    "f" => all.filter(|at| times(at) >= ts).map(|at| times(&at)).min(),
                    _ => all.filter(|at| times(at) <= ts).map(|at| times(&at)).max(),
                };
                let found = (status == 200).then(|| {
                    let at = self.room.place(answer["event_id"].as_str().unwrap()).unwrap();
                    assert!(self.room.sees(self.user, at), "{request}: {} {answer}", self.name());
                    times(&at)
                });
                assert_eq!(found, wanted, "{request}: {}", self.name());
            }
        }
    }
}

/// What is served to somebody without naming a room.
pub(super) async fn check_everywhere(town: &Town, who: usize) {
    let looks: Vec<Look<'_>> = town.rooms.iter().map(|room| Look::new(town, who, room)).collect();
    check_search(town, &looks).await;
    check_notifications(town, &looks).await;
    check_old_news(town, who, &looks).await;
    check_sticky(town, who, &looks).await;
    let filter = json!({ "room": { "include_leave": true, "timeline": { "limit": 1_000 } } }).to_string();
    let request = format!("GET /sync?use_state_after=true&filter={}", quoted(&filter));
    let synced = town.get(who, &request).await;
    let body = json!({ "lists": { "a": { "ranges": [[0, 99]], "timeline_limit": 100,
        "required_state": [["*", "*"]] } } });
    let request = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let (status, slid) = town.ask(who, request, body).await;
    assert_eq!(status, 200, "{slid}");
    for look in &looks {
        let section = if look.room.member(look.user) == "join" { "join" } else { "leave" };
        let update = &synced["rooms"][section][&look.room.id];
        let slid = &slid["rooms"][&look.room.id];
        look.check_whole((&update["timeline"]["events"], &update["state_after"]), section == "leave");
        look.check_whole((&slid["timeline"], &slid["required_state"]), false);
        let rooms = &synced["rooms"];
        look.check_stripped("invite", &rooms["invite"][&look.room.id]["invite_state"]["events"]);
        look.check_stripped("knock", &rooms["knock"][&look.room.id]["knock_state"]["events"]);
        let of_one = look.room.member(look.user);
        look.check_stripped(of_one, &slid["invite_state"]);
    }
    check_first_syncs(town, who, &looks).await;
}

async fn check_search(town: &Town, looks: &[Look<'_>]) {
    let criteria = json!({ "search_term": "word", "order_by": "recent", "filter": { "limit": 100 },
        "include_state": true, "event_context": { "before_limit": 2, "after_limit": 2, "include_profile": true } });
    let body = json!({ "search_categories": { "room_events": criteria } });
    let (mut found, mut from) = (BTreeSet::new(), String::new());
    loop {
        let (status, answer) = town.ask(looks[0].who, &format!("POST /search{from}"), body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let answer = &answer["search_categories"]["room_events"];
        for look in looks {
            look.check_served("search", &answer["results"], false);
            look.check_found_state(&answer["state"][&look.room.id]);
            for result in answer["results"].as_array().unwrap() {
                look.check_found_people(result);
            }
        }
        for result in answer["results"].as_array().unwrap() {
            found.insert(result["result"]["event_id"].as_str().unwrap().to_owned());
        }
        match answer["next_batch"].as_str() {
            Some(next) => from = format!("?next_batch={next}"),
            None => break,
        }
    }
    for look in looks {
        let said = look.timeline.iter().copied().filter(|at| {
            let event = &look.room.events[*at];
            let body = event.content["m.new_content"]["body"].as_str();
            let body = body.or(event.content["body"].as_str()).unwrap_or_default();
            event.redacted.is_none() && body.starts_with("word") && !look.is_kept(*at)
        });
        let wanted: BTreeSet<String> = look.room.ids(said).into_iter().collect();
        let here: BTreeSet<String> =
            found.iter().filter(|id| look.room.place(id).is_some()).cloned().collect();
        match look.room.member(look.user) {
            "join" => assert_eq!(here, wanted, "search: {}", look.name()),
            membership => {
                let has_forgotten = town.has_forgotten(look.user, &look.room.id);
                let was_in = matches!(membership, "leave" | "ban") && !look.room.stays(look.user).is_empty();
                if was_in && !has_forgotten {
                    assert!(wanted.is_subset(&here), "search: {}: {here:?} {wanted:?}", look.name());
                }
                let all = (0..look.room.events.len()).filter(|_| !has_forgotten);
                let may = look.room.ids(all.filter(|at| look.room.sees(look.user, *at)));
                assert!(here.iter().all(|id| may.contains(id)), "search: {}: {here:?}", look.name());
            }
        }
    }
}

/// What somebody was notified of since they came, and whether a receipt says that they have read it.
async fn check_notifications(town: &Town, looks: &[Look<'_>]) {
    let answer = town.get(looks[0].who, "GET /notifications?limit=1000").await;
    let (mut found, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for notification in answer["notifications"].as_array().unwrap() {
        let id = notification["event"]["event_id"].as_str().unwrap().to_owned();
        found.insert((id, notification["read"].as_bool().unwrap()));
    }
    for look in looks {
        look.check_served("notifications", &answer["notifications"], false);
        let Some((opened, None)) = look.room.stays(look.user).last().copied() else { continue };
        for at in opened + 1..look.room.events.len() {
            if look.room.notifies(look.user, at, &look.ignored).is_some() {
                let read = look.room.read_upto(look.user, look.room.thread_of(at), false);
                wanted.insert((look.room.events[at].id.clone(), read.is_some_and(|read| read >= at)));
            }
        }
    }
    assert_eq!(found, wanted, "notifications of {}", looks[0].user);
}
