//! What happened, as plain lists, and naive recounts from them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// How far relations are followed to the thread that an event belongs to.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
const HOPS: usize = 3;
/// The level that redacting what others said takes.
const REDACT_LEVEL: i64 = 50;
/// The level that mentioning the whole room takes.
const ROOM_MENTION_LEVEL: i64 = 50;

/// An event as it was sent.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) kind: String,
    pub(super) key: Option<String>,
    pub(super) content: Value,
    pub(super) ts: u64,
    pub(super) sticks: bool,
    /// The event that redacted it.
    pub(super) redacted: Option<usize>,
    /// When it happened, among all that happened anywhere.
    pub(super) tick: u64,
}

impl Event {
    /// Whether `content` is what a redaction leaves of this event's.
    pub(super) fn is_bare(&self, content: &Value) -> bool {
        let kept: &[&str] = match &*self.kind {
            "m.room.member" => &["membership", "join_authorised_via_users_server"],
            "m.room.join_rules" => &["join_rule", "allow"],
            "m.room.history_visibility" => &["history_visibility"],
            "m.room.redaction" => &["redacts"],
            "m.room.create" | "m.room.power_levels" => return true,
            _ => &[],
        };
        let fields = content.as_object().unwrap();
        fields.iter().all(|(name, value)| kept.contains(&&**name) && self.content[name] == *value)
    }

    /// Whether it stands in the state where `other` does.
    pub(super) fn is_in_place_of(&self, other: &Self) -> bool {
        self.key == other.key && self.kind == other.kind
    }

    /// To which event it relates, and how.
    pub(super) fn relation(&self) -> Option<(&str, &str)> {
        let relation = &self.content["m.relates_to"];
        Some((relation["rel_type"].as_str()?, relation["event_id"].as_str()?))
    }

    /// The membership that it gives to `user`.
    fn membership_of(&self, user: &str) -> Option<&str> {
        let fits = self.kind == "m.room.member" && self.key.as_deref() == Some(user);
        fits.then(|| self.content["membership"].as_str()).flatten()
    }
}

/// A receipt: whose, whether it is private, and of which thread (none for all of the room).
pub(super) type ReceiptOf = (String, bool, String);

/// One room, from its beginning.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) id: String,
    pub(super) events: Vec<Event>,
    pub(super) receipts: BTreeMap<ReceiptOf, usize>,
    pub(super) typing: BTreeSet<String>,
    /// Who wants to be told of mentions only.
    pub(super) muted: BTreeSet<String>,
    /// Who has wanted to be forgotten, and how many events there were then.
    pub(super) erased: BTreeMap<String, usize>,
}

/// Notifications, and how many of them are highlights.
pub(super) type Tally = (u64, u64);

impl Room {
    /// What `user` is to the room before the event at `upto`.
    pub(super) fn member_before(&self, user: &str, upto: usize) -> &str {
        let found = self.events[..upto].iter().rev().find_map(|event| event.membership_of(user));
        found.unwrap_or("leave")
    }

    pub(super) fn member(&self, user: &str) -> &str {
        self.member_before(user, self.events.len())
    }

    /// The event that made `user` what they are to the room.
    pub(super) fn member_event(&self, user: &str) -> Option<usize> {
        self.events.iter().rposition(|event| event.membership_of(user).is_some())
    }

    pub(super) fn joined(&self) -> BTreeSet<&str> {
        self.with("join")
    }

    pub(super) fn with(&self, membership: &str) -> BTreeSet<&str> {
        let everybody = self.events.iter().filter(|event| event.kind == "m.room.member");
        let users = everybody.filter_map(|event| event.key.as_deref());
        users.filter(|user| self.member(user) == membership).collect()
    }

    /// The state before the event at `upto`.
    pub(super) fn state_before(&self, upto: usize) -> BTreeMap<(&str, &str), usize> {
        let events = self.events[..upto].iter().enumerate();
        events.filter_map(|(at, event)| Some(((&*event.kind, event.key.as_deref()?), at))).collect()
    }

    /// What the state has now at a type, without a key.
    pub(super) fn now(&self, kind: &str) -> Option<&Value> {
        let state = self.state_before(self.events.len());
        state.get(&(kind, "")).map(|at| &self.events[*at].content)
    }

    /// Whether everybody may know of the room.
    pub(super) fn is_open(&self) -> bool {
        let rule = self.now("m.room.join_rules").and_then(|content| content["join_rule"].as_str());
        matches!(rule, Some("public" | "knock"))
            || self.visibility_before(self.events.len()) == "world_readable"
    }

    /// The rooms of a space, with what it says of them; one that no server has is none.
    pub(super) fn children_of_space(&self) -> BTreeMap<String, Value> {
        if self.events[0].content["type"] != "m.space" {
            return BTreeMap::new();
        }
        let state = self.state_before(self.events.len()).into_iter();
        let children = state.filter(|((kind, _), _)| *kind == "m.space.child");
        let said = children.map(|((_, key), at)| (key.to_owned(), self.events[at].content.clone()));
        said.filter(|(_, content)| content["via"].is_array()).collect()
    }

    pub(super) fn visibility_before(&self, upto: usize) -> &str {
        let at = self.state_before(upto).get(&("m.room.history_visibility", "")).copied();
        at.map_or("shared", |at| self.visibility_of(at))
    }

    fn visibility_of(&self, at: usize) -> &str {
        self.events[at].content["history_visibility"].as_str().unwrap_or("shared")
    }

    /// The stays of `user`: the joining, and the event that ended it.
    pub(super) fn stays(&self, user: &str) -> Vec<(usize, Option<usize>)> {
        let mut stays: Vec<(usize, Option<usize>)> = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            let Some(membership) = event.membership_of(user) else { continue };
            let is_in = stays.last().is_some_and(|(_, end)| end.is_none());
            match (is_in, membership == "join") {
                (false, true) => stays.push((at, None)),
                (true, false) => stays.last_mut().unwrap().1 = Some(at),
                _ => {}
            }
        }
        stays
    }

    /// Whether `user` may see the event at `at`.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5>
    pub(super) fn sees(&self, user: &str, at: usize) -> bool {
        let joins_later = self.stays(user).iter().any(|(open, _)| *open > at);
        let allows = |visibility: &str, membership: &str| match (visibility, membership) {
            ("world_readable", _) | (_, "join") | ("invited", "invite") => true,
            ("shared", _) => joins_later,
            _ => false,
        };
        let event = &self.events[at];
        let (visibility, membership) = (self.visibility_before(at), self.member_before(user, at));
        let sets_visibility = event.kind == "m.room.history_visibility" && event.key.as_deref() == Some("");
        allows(visibility, membership)
            || (sets_visibility && allows(self.visibility_of(at), membership))
            || event.membership_of(user).is_some_and(|membership| allows(visibility, membership))
    }

    /// The last event that `user` is given: of those who are in none, of those who have left the end of
    /// their last stay. `Err` for those who may not look into the room at all.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>: "After a user has left a
    /// room, they may see any events which they were allowed to see before they left the room, but no
    /// events received after they left."
    pub(super) fn until(&self, user: &str, has_forgotten: bool) -> Option<usize> {
        let (all, last) = (self.events.len(), self.stays(user).last().copied());
        let is_open = self.visibility_before(all) == "world_readable";
        match last {
            Some((_, None)) => Some(all),
            _ if is_open => Some(all),
            Some((_, Some(end))) if !has_forgotten => Some(end + 1),
            _ => None,
        }
    }

    /// Whether `user` came too late for what an erased user said.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>: "any users (or
    /// servers) which join the room after the erasure request are served redacted copies of the events".
    pub(super) fn is_kept_from(&self, user: &str, at: usize) -> bool {
        let event = &self.events[at];
        let Some(then) = self.erased.get(&event.sender) else { return false };
        event.redacted.is_none() && !self.stays(user).iter().any(|(opened, _)| opened < then)
    }

    /// While a server has had users in the room: the joining of the first, and the event that ended it.
    pub(super) fn presence(&self, server: &str) -> Vec<(usize, Option<usize>)> {
        let (mut joined, mut found): (BTreeSet<&str>, Vec<(usize, Option<usize>)>) = Default::default();
        for (at, event) in self.events.iter().enumerate() {
            let Some(user) = event.key.as_deref().filter(|user| user.ends_with(&format!(":{server}"))) else {
                continue;
            };
            let was_in = !joined.is_empty();
            match event.membership_of(user) {
                Some("join") => joined.insert(user),
                Some(_) => joined.remove(user),
                None => continue,
            };
            match (was_in, joined.is_empty()) {
                (false, false) => found.push((at, None)),
                (true, true) => found.last_mut().unwrap().1 = Some(at),
                _ => {}
            }
        }
        found
    }

    /// Whether a server that is in the room may see the event at `at`: one of its users may, by the state before
    /// or after it.
    pub(super) fn server_sees(&self, server: &str, at: usize) -> bool {
        let ours = |user: &&str| user.ends_with(&format!(":{server}"));
        [at, at + 1].into_iter().any(|upto| {
            let everybody = self.events[..upto].iter().filter_map(|event| event.key.as_deref()).filter(ours);
            let mut memberships = everybody.map(|user| self.member_before(user, upto));
            match self.visibility_before(upto) {
                "invited" => memberships.any(|membership| matches!(membership, "join" | "invite")),
                "joined" => memberships.any(|membership| membership == "join"),
                _ => true,
            }
        })
    }

    /// Whether a server came too late for what an erased user said.
    pub(super) fn is_kept_from_server(&self, server: &str, at: usize) -> bool {
        let event = &self.events[at];
        let Some(then) = self.erased.get(&event.sender) else { return false };
        event.redacted.is_none() && !self.presence(server).iter().any(|(opened, _)| opened < then)
    }

    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.events.iter().position(|event| event.id == id)
    }

    /// The root of the thread to which an event belongs.
    pub(super) fn thread_of(&self, at: usize) -> Option<usize> {
        let mut event = &self.events[at];
        for _ in 0..=HOPS {
            let (how, target) = event.relation()?;
            let place = self.place(target)?;
            if how == "m.thread" {
                return Some(place);
            }
            event = &self.events[place];
        }
        None
    }

    /// The events that relate to one, and have not been redacted.
    pub(super) fn children(&self, parent: usize) -> impl Iterator<Item = (usize, &str)> {
        let id = &*self.events[parent].id;
        self.events.iter().enumerate().filter_map(move |(at, event)| {
            let (how, target) = event.relation()?;
            (target == id && event.redacted.is_none()).then_some((at, how))
        })
    }

    fn level_before(&self, user: &str, upto: usize) -> i64 {
        let state = self.state_before(upto);
        if state.get(&("m.room.create", "")).is_some_and(|at| self.events[*at].sender == user) {
            return i64::MAX;
        }
        let levels = state.get(&("m.room.power_levels", "")).map(|at| &self.events[*at].content);
        levels.and_then(|levels| levels["users"][user].as_i64()).unwrap_or(0)
    }

    /// Whether the redaction at `at` has an effect on the event at `target`.
    pub(super) fn may_redact(&self, at: usize, target: usize) -> bool {
        let sender = &self.events[at].sender;
        *sender == self.events[target].sender || self.level_before(sender, at) >= REDACT_LEVEL
    }

    /// What the default push rules say of an event: whether it notifies, and whether it is a highlight.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#predefined-rules>
    pub(super) fn notifies(&self, user: &str, at: usize, ignored: &BTreeSet<String>) -> Option<bool> {
        let event = &self.events[at];
        let is_mute = event.sender == user || ignored.contains(&event.sender) || event.redacted.is_some();
        if is_mute || event.kind != "m.room.message" || event.content["msgtype"] == "m.notice" {
            return None;
        }
        let mentions = &event.content["m.mentions"];
        let named = mentions["user_ids"].as_array().into_iter().flatten();
        let is_named = named.into_iter().any(|name| name == user);
        let all = mentions["room"] == true && self.level_before(&event.sender, at) >= ROOM_MENTION_LEVEL;
        if is_named || all {
            return Some(true);
        }
        if self.muted.contains(user) {
            return None;
        }
        let is_edit = event.relation().is_some_and(|(how, _)| how == "m.replace");
        (!is_edit).then_some(false)
    }

    /// Up to where `user` has read the thread with this root, or the main timeline: by receipts, and by
    /// what they said there themselves.
    pub(super) fn read_upto(&self, user: &str, thread: Option<usize>, counts_own: bool) -> Option<usize> {
        let name = thread.map_or("main", |root| &*self.events[root].id);
        let receipts =
            self.receipts.iter().filter(|((whose, _, of), _)| whose == user && (of.is_empty() || of == name));
        let own = self.events.iter().rposition(|event| event.sender == user && event.key.is_none());
        let own = (0..=own.unwrap_or_default()).rev().find(|at| {
            let event = &self.events[*at];
            event.sender == user && event.key.is_none() && self.thread_of(*at) == thread
        });
        receipts.map(|(_, at)| *at).chain(own.filter(|_| counts_own)).max()
    }

    /// What `user` has not read since they joined: outside threads, and by the roots of threads.
    pub(super) fn unread(&self, user: &str, ignored: &BTreeSet<String>) -> (Tally, BTreeMap<String, Tally>) {
        let (mut main, mut threads): (Tally, BTreeMap<String, Tally>) = Default::default();
        let Some((opened, None)) = self.stays(user).last().copied() else { return (main, threads) };
        for at in opened + 1..self.events.len() {
            let Some(highlights) = self.notifies(user, at, ignored) else { continue };
            let thread = self.thread_of(at);
            if self.read_upto(user, thread, true).is_some_and(|read| read >= at) {
                continue;
            }
            let tally = match thread {
                None => &mut main,
                Some(root) => threads.entry(self.events[root].id.clone()).or_default(),
            };
            tally.0 += 1;
            tally.1 += u64::from(highlights);
        }
        (main, threads)
    }

    /// Whether `user` has taken back what they said in a thread: which thread they had read by saying it
    /// nobody can tell any more.
    pub(super) fn has_lost_mark(&self, user: &str) -> bool {
        let mut all = self.events.iter();
        all.any(|event| event.sender == user && event.redacted.is_some() && event.relation().is_some())
    }

    /// An event that `user` gets in timelines when they may see it: not of those whom they ignore.
    pub(super) fn is_heard(&self, at: usize, ignored: &BTreeSet<String>) -> bool {
        let event = &self.events[at];
        event.key.is_some() || !ignored.contains(&event.sender)
    }

    /// All that `user` may find of the timeline, oldest first.
    pub(super) fn timeline(&self, user: &str, until: usize, ignored: &BTreeSet<String>) -> Vec<usize> {
        (0..until).filter(|at| self.sees(user, *at) && self.is_heard(*at, ignored)).collect()
    }

    pub(super) fn ids(&self, places: impl IntoIterator<Item = usize>) -> Vec<String> {
        places.into_iter().map(|at| self.events[at].id.clone()).collect()
    }
}
