//! Whether what is in an answer is what the plain list permits.

use serde_json::Value;

use super::{
    deeds::is_of_room,
    ledger::Event,
    sight::{Look, ids},
    town::HOMES,
};

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

impl Look<'_> {
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
            if !is_bare {
                self.check_content(request, at, &event["content"]);
            }
            if known.redacted.is_some_and(|by| self.was_told(by)) {
                assert!(event["unsigned"]["redacted_because"].is_object(), "{request}: {event}");
            }
            self.check_replaced(request, at, &event["unsigned"]);
            self.check_bundle(request, at, &event["unsigned"]["m.relations"]);
        }
    }

    /// The content of an event is what it said, or what a redaction leaves of that.
    pub(super) fn check_content(&self, request: &str, at: usize, content: &Value) {
        let known = &self.room.events[at];
        let (is_bare, is_whole) = (known.is_bare(content), *content == known.content);
        let is_right = match known.redacted {
            // The states of a room servers get whole.
            _ if self.is_kept(at) => is_bare || (self.is_abroad() && known.key.is_some() && is_whole),
            // It may not have heard of that.
            Some(by) if !self.was_told(by) => true,
            Some(_) => is_bare,
            None => is_whole,
        };
        assert!(is_right, "{request}: {} is shown {content} of {}", self.name(), known.id);
    }

    /// Which event a state event replaced everybody is told, what that said only those who may see it.
    fn check_replaced(&self, request: &str, at: usize, unsigned: &Value) {
        let (events, told) = (&self.room.events, unsigned.get("prev_content"));
        let context = || format!("{request}: {} at {}: {unsigned}", self.name(), events[at].id);
        if !unsigned["membership"].is_string() {
            // What is told with another event is told without what it replaced.
            assert_eq!(told, None, "{}", context());
            return;
        }
        let replaced = unsigned["replaces_state"].as_str().map(|id| self.room.place(id).unwrap());
        if self.is_whole {
            let same = |event: &Event| event.key.is_some() && event.is_in_place_of(&events[at]);
            assert_eq!(replaced, events[..at].iter().rposition(same), "{}", context());
        }
        let is_seen = replaced.is_some_and(|replaced| self.room.sees(self.user, replaced));
        // What happened before the user's server was there came to it as state, which it tells whole.
        let is_state = replaced.is_some_and(|replaced| !self.was_told(replaced));
        assert!(told.is_none() || is_seen || is_state, "{}", context());
        // To whoever was not there when it was replaced it may be unknown that they might have seen it.
        let is_inside = self.room.member_before(self.user, at) == "join";
        assert!(told.is_some() || !is_seen || (is_state && !is_inside), "{}", context());
        if let (Some(replaced), Some(told)) = (replaced, told) {
            self.check_content(request, replaced, told);
            assert_eq!(unsigned["prev_sender"], *events[replaced].sender, "{}", context());
        }
    }

    /// Whether the user came too late for what an erased user said.
    pub(super) fn is_kept(&self, at: usize) -> bool {
        self.town.is_kept_from(self.who, self.room, at)
    }

    /// Whether the user's server was there when the event at `at` happened.
    pub(super) fn was_told(&self, at: usize) -> bool {
        let home = HOMES[self.town.people[self.who].home];
        let is_within =
            |(opened, end): &(usize, Option<usize>)| *opened <= at && end.is_none_or(|end| at <= end);
        !self.is_abroad() || self.room.presence(home).iter().any(is_within)
    }

    /// Whether the user's server was there when the event at `at` happened, or may fetch it as it is.
    pub(super) fn may_have(&self, at: usize) -> bool {
        let home = HOMES[self.town.people[self.who].home];
        self.was_told(at) || self.room.server_sees(home, at) && !self.room.is_kept_from_server(home, at)
    }

    /// Whether the user's server may not know what was redacted of what relates to an event.
    pub(super) fn is_unsure(&self, parent: usize) -> bool {
        let id = &*self.room.events[parent].id;
        let mut related =
            self.room.events.iter().filter(|event| event.relation().is_some_and(|(_, target)| target == id));
        let has = |by: usize| self.was_told(by) || self.is_whole && self.may_have(by);
        related.any(|event| event.redacted.is_some_and(|by| !has(by)))
    }

    /// Whether there is another server, so that this one may not know everything.
    pub(super) fn is_abroad(&self) -> bool {
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
            // Names are often given twice; those that are only used in a room are not.
            let name = Some(&content["displayname"]).filter(|name| name.as_str().is_some_and(is_of_room));
            let said =
                [&content["body"], &content["m.new_content"]["body"], &content["topic"], &content["name"]];
            for said in said.into_iter().chain(name) {
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
}
