//! What each endpoint serves of a room to a user, against what the plain list permits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    glance::check_first_syncs,
    ledger::Room,
    town::{HOMES, Town},
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

/// Every event anywhere in an answer, those inside of others too.
fn harvest<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| harvest(item, found)),
        Value::Object(fields) => {
            if fields.contains_key("event_id") && fields.contains_key("sender") {
                found.push(value);
            }
            fields.values().for_each(|field| harvest(field, found));
        }
        _ => {}
    }
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

    /// No event in an answer is one that the user may not see, none shows what was redacted or what they came too late
    /// for, and none that is told with another is of somebody whom they ignore.
    pub(super) fn check_served(&self, request: &str, answer: &Value, is_state: bool) {
        self.check_kept(request, answer);
        let mut found = Vec::new();
        harvest(answer, &mut found);
        for event in found {
            let id = event["event_id"].as_str().unwrap();
            let Some(at) = self.room.place(id) else { continue };
            let known = &self.room.events[at];
            // Who redacted an event is told with it, but not why.
            let is_bare = known.kind == "m.room.redaction" && event["content"].get("reason").is_none();
            let allowed = self.room.sees(self.user, at) || (is_state && known.key.is_some()) || is_bare;
            assert!(allowed, "{request}: {} is shown {id}: {answer}", self.name());
            if self.is_kept(at) && self.is_abroad() && known.key.is_some() {
                assert!(known.is_bare(&event["content"]) || event["content"] == known.content, "{event}");
            } else if self.is_kept(at) {
                assert!(known.is_bare(&event["content"]), "{request}: {} is shown {event}", self.name());
            } else if known.redacted.is_some_and(|by| !self.was_told(by)) {
                // It may not have heard of that.
            } else if known.redacted.is_some() {
                assert_eq!(event["content"].get("body"), None, "{request} shows what is gone: {event}");
                assert!(event["unsigned"]["redacted_because"].is_object(), "{request}: {event}");
            } else if !is_bare {
                assert_eq!(event["content"], known.content, "{request}: {}: {event}", self.name());
            }
            self.check_bundle(request, at, &event["unsigned"]["m.relations"]);
        }
    }

    /// Whether the user came too late for what an erased user said.
    pub(super) fn is_kept(&self, at: usize) -> bool {
        self.town.is_kept_from(self.who, self.room, at)
    }

    /// Whether the user's server was there when the event at `at` happened.
    fn was_told(&self, at: usize) -> bool {
        let home = HOMES[self.town.people[self.who].home];
        let is_within =
            |(opened, end): &(usize, Option<usize>)| *opened <= at && end.is_none_or(|end| at <= end);
        !self.is_abroad() || self.room.presence(home).iter().any(is_within)
    }

    /// Whether the user's server was there when the event at `at` happened, or may fetch it as it is.
    fn may_have(&self, at: usize) -> bool {
        let home = HOMES[self.town.people[self.who].home];
        self.was_told(at) || self.room.server_sees(home, at) && !self.room.is_kept_from_server(home, at)
    }

    /// Whether the user's server may not know what was redacted of what relates to an event.
    fn is_unsure(&self, parent: usize) -> bool {
        let id = &*self.room.events[parent].id;
        let mut related =
            self.room.events.iter().filter(|event| event.relation().is_some_and(|(_, target)| target == id));
        let has = |by: usize| self.was_told(by) || self.is_whole && self.may_have(by);
        related.any(|event| event.redacted.is_some_and(|by| !has(by)))
    }

    /// Whether there is another server, so that this one may not know everything.
    fn is_abroad(&self) -> bool {
        self.town.abroad.is_some()
    }

    /// Nothing that the user came too late for stands anywhere in an answer.
    fn check_kept(&self, request: &str, answer: &Value) {
        let text = answer.to_string();
        for at in (0..self.room.events.len()).filter(|at| self.is_kept(*at)) {
            let event = &self.room.events[at];
            if self.is_abroad() && event.key.is_some() {
                continue; // The states of a room servers get whole.
            }
            let content = &event.content;
            for said in
                [&content["body"], &content["m.new_content"]["body"], &content["topic"], &content["name"]]
            {
                let is_told = !said.is_null() && text.contains(&said.to_string());
                assert!(!is_told, "{request}: {} reads {said}: {text:.2000}", self.name());
            }
        }
    }

    /// What is told with an event of those that relate to it.
    fn check_bundle(&self, request: &str, at: usize, bundle: &Value) {
        let context = format!("{request}: {} at {}: {bundle}", self.name(), self.room.events[at].id);
        let thread = &bundle["m.thread"];
        let replies = self.room.children(at).filter(|(_, how)| *how == "m.thread").map(|(child, _)| child);
        // Of the others their server has what a redaction leaves, which relates to nothing.
        let replies = replies.filter(|child| self.may_have(*child));
        let replies: Vec<usize> = replies.filter(|child| self.room.is_heard(*child, &self.ignored)).collect();
        let seen: Vec<usize> = replies.iter().copied().filter(|child| self.gets(*child)).collect();
        if self.is_unsure(at) {
            return;
        }
        if thread.is_object() {
            let latest = thread["latest_event"]["event_id"].as_str().unwrap();
            let latest = self.room.place(latest).unwrap();
            let count = usize::try_from(thread["count"].as_u64().unwrap()).unwrap();
            assert!(count <= replies.len(), "the size of a thread: {context}");
            if !self.is_whole {
                assert!(seen.contains(&latest), "the latest of a thread: {context}");
                return;
            }
            assert_eq!(count, replies.len(), "the size of a thread: {context}");
            assert_eq!(Some(&latest), seen.last(), "the latest of a thread: {context}");
            let has_part = self.room.events[at].sender == self.user
                || replies.iter().any(|reply| self.room.events[*reply].sender == self.user);
            assert_eq!(thread["current_user_participated"], has_part, "{context}");
        }
        let edit = self.edits(at).filter(|edit| self.gets(*edit)).last();
        if let Some(told) = bundle["m.replace"]["event_id"].as_str().filter(|_| self.is_whole) {
            assert_eq!(self.room.place(told), edit, "an edit: {context}");
        }
    }

    /// Whether the user sees an event as it is.
    pub(super) fn gets(&self, at: usize) -> bool {
        self.room.sees(self.user, at) && !self.is_kept(at)
    }

    /// What must be told with an event of those that relate to it.
    pub(super) fn check_told(&self, event: &Value) {
        let Some(at) = self.room.place(event["event_id"].as_str().unwrap()) else { return };
        let (known, bundle) = (&self.room.events[at], &event["unsigned"]["m.relations"]);
        if known.redacted.is_some() {
            return;
        }
        let is_shown = |child: &usize| self.gets(*child) && self.room.is_heard(*child, &self.ignored);
        let mut children = self.room.children(at).filter(|(child, _)| is_shown(child));
        if let Some((child, _)) = children.find(|(_, how)| *how == "m.thread") {
            assert!(bundle["m.thread"].is_object(), "{}: no thread with {child}: {event}", self.name());
        }
        if self.edits(at).any(|edit| self.gets(edit)) {
            assert!(bundle["m.replace"].is_object(), "{}: no edit: {event}", self.name());
        }
        let references = self.room.children(at).filter(|(_, how)| *how == "m.reference");
        let references = references.map(|(child, _)| child).filter(|child| self.gets(*child));
        if !self.is_unsure(at) {
            let found = ids(&bundle["m.reference"]["chunk"]);
            assert_eq!(found, self.room.ids(references), "references: {}: {event}", self.name());
        }
    }

    /// The edits of an event that count.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
    fn edits(&self, at: usize) -> impl Iterator<Item = usize> {
        let (events, edited) = (&self.room.events, &self.room.events[at]);
        let may_be = edited.relation().is_none_or(|(how, _)| how != "m.replace") && edited.redacted.is_none();
        let edits = self.room.children(at).filter(move |(_, how)| may_be && *how == "m.replace");
        let counts = |edit: &usize| {
            events[*edit].sender == edited.sender && events[*edit].content.get("m.new_content").is_some()
        };
        edits.map(|(edit, _)| edit).filter(counts)
    }

    /// All endpoints that look into a room.
    pub(super) async fn check(&self) {
        self.glance().await;
        let Some(until) = self.until else {
            self.check_closed().await;
            return;
        };
        self.check_messages(until).await;
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
        for path in ["threads", "timestamp_to_event?dir=f&ts=0"] {
            assert_eq!(self.ask(&self.path_v1(path)).await.0, 403, "{path}: {}", self.name());
        }
        for event in &self.room.events {
            let context = self.path(&format!("context/{}", event.id));
            for path in [self.path(&format!("event/{}", event.id)), context] {
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
        let answer = self.get(&self.path(&format!("members?at={token}"))).await;
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
            let path = self.path(&format!("state/{kind}/{key}?format=event"));
            assert_eq!(self.get(&path).await["event_id"], *self.room.events[*at].id, "{path}");
        }
        let (status, answer) = self.ask(&self.path("joined_members")).await;
        if self.room.member(self.user) == "join" {
            let joined: BTreeSet<&str> =
                answer["joined"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(joined, self.room.joined(), "{}", self.name());
        } else {
            assert_eq!(status, 403, "joined_members: {} {answer}", self.name());
        }
    }

    async fn check_event(&self, at: usize) {
        let event = &self.room.events[at];
        let request = self.path(&format!("event/{}", event.id));
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
        for kind in ["", "/m.thread", "/m.annotation", "/m.replace"] {
            let request = self.path_v1(&format!("relations/{id}{kind}?dir=f&limit={}", 1 + self.who));
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
                is_found && (kind.is_empty() || kind[1..] == **how)
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
    }
    check_first_syncs(town, who, &looks).await;
}

async fn check_search(town: &Town, looks: &[Look<'_>]) {
    let criteria = json!({ "search_term": "word", "order_by": "recent", "filter": { "limit": 100 },
        "event_context": { "before_limit": 2, "after_limit": 2 } });
    let body = json!({ "search_categories": { "room_events": criteria } });
    let (mut found, mut from) = (BTreeSet::new(), String::new());
    loop {
        let (status, answer) = town.ask(looks[0].who, &format!("POST /search{from}"), body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let answer = &answer["search_categories"]["room_events"];
        for look in looks {
            look.check_served("search", &answer["results"], false);
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
