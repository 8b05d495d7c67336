//! What a client believes of one room, and how that compares with the plain list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    ledger::{ReceiptOf, Tally},
    sight::{Look, ids, quoted},
};

/// Account data to which clients and users agree.
pub(super) const DATA: [&str; 4] = ["m.x", "m.tag", "m.fully_read", "m.direct"];

/// A part of a timeline.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Events may be missing here; with the token from where they are found.
    Gap(Option<String>),
    Event(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) membership: String,
    pub(super) pieces: Vec<Piece>,
    pub(super) state: BTreeMap<(String, String), String>,
    pub(super) receipts: BTreeMap<ReceiptOf, String>,
    pub(super) typing: BTreeSet<String>,
    pub(super) data: BTreeMap<String, Value>,
    pub(super) main: Tally,
    pub(super) threads: BTreeMap<String, Tally>,
    pub(super) joined: Option<u64>,
    pub(super) invited: Option<u64>,
}

/// Notifications and highlights as an answer has them.
pub(super) fn tally(counts: &Value) -> Tally {
    let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{counts}"));
    (count("notification_count"), count("highlight_count"))
}

impl Known {
    /// Takes in the events of a timeline; before them there may be others.
    pub(super) fn add_timeline(&mut self, events: &Value, is_limited: bool, prev_batch: &Value) {
        let new = ids(events);
        let is_known = |piece: &Piece| matches!(piece, Piece::Event(id) if new.contains(id));
        if let Some(first) = self.pieces.iter().position(is_known).filter(|_| is_limited) {
            // To whoever comes back into a room, what they have is given again behind a gap.
            self.pieces.truncate(first);
        }
        // Of gaps in a row the last leads through all.
        while is_limited && matches!(self.pieces.last(), Some(Piece::Gap(_))) {
            self.pieces.pop();
        }
        if is_limited || self.pieces.is_empty() {
            self.pieces.push(Piece::Gap(prev_batch.as_str().map(String::from)));
        }
        self.pieces.extend(new.into_iter().map(Piece::Event));
    }

    pub(super) fn add_state(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            let Some(key) = event["state_key"].as_str() else { continue };
            let key = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
            match event["event_id"].as_str() {
                Some(id) => drop(self.state.insert(key, id.to_owned())),
                None => drop(self.state.remove(&key)),
            }
        }
    }

    pub(super) fn add_receipts(&mut self, content: &Value) {
        for (id, kinds) in content.as_object().unwrap() {
            for (kind, users) in kinds.as_object().unwrap() {
                for (user, receipt) in users.as_object().unwrap() {
                    let thread = receipt["thread_id"].as_str().unwrap_or_default().to_owned();
                    let of = (user.clone(), kind == "m.read.private", thread);
                    self.receipts.insert(of, id.clone());
                }
            }
        }
    }

    pub(super) fn set_typing(&mut self, content: &Value) {
        let users = content["user_ids"].as_array().unwrap();
        self.typing = users.iter().map(|user| user.as_str().unwrap().to_owned()).collect();
    }

    pub(super) fn add_data(&mut self, event: &Value) {
        self.data.insert(event["type"].as_str().unwrap().to_owned(), event["content"].clone());
    }

    /// The timeline with its gaps filled in, as `/messages` fills them.
    async fn whole(&self, look: &Look<'_>, unwanted: Option<&str>) -> Vec<String> {
        let filter = json!({ "not_types": unwanted.into_iter().collect::<Vec<_>>() });
        let filter = quoted(&filter.to_string());
        let mut all: Vec<String> = Vec::new();
        for piece in &self.pieces {
            let token = match piece {
                Piece::Event(id) => {
                    all.push(id.clone());
                    continue;
                }
                Piece::Gap(None) => {
                    assert!(all.is_empty(), "no way into a gap: {}", look.name());
                    continue;
                }
                Piece::Gap(Some(token)) => token,
            };
            let (mut missing, mut from) = (Vec::new(), token.clone());
            'walk: loop {
                let path = format!("GET /rooms/{}/messages?dir=b&limit=9", look.room.id);
                let page = look.town.get(look.who, &format!("{path}&filter={filter}&from={from}")).await;
                for id in ids(&page["chunk"]) {
                    if all.last() == Some(&id) {
                        break 'walk;
                    }
                    missing.push(id);
                }
                match page["end"].as_str() {
                    Some(end) => end.clone_into(&mut from),
                    None => break,
                }
            }
            missing.reverse();
            all.extend(missing);
        }
        all
    }

    /// Every event that the user may see is there once, in order, or is found in a gap.
    pub(super) async fn compare_timeline(&self, look: &Look<'_>, unwanted: Option<&str>) {
        let end = look.room.stays(look.user).last().and_then(|(_, end)| *end);
        let events = &look.room.events;
        let fits = |at: &&usize| {
            end.is_none_or(|end| **at <= end) && unwanted.is_none_or(|kind| events[**at].kind != kind)
        };
        let wanted = look.room.ids(look.timeline.iter().filter(fits).copied());
        let found = self.whole(look, unwanted).await;
        assert_eq!(found, wanted, "the timeline of {}: {:?}", look.name(), self.pieces);
    }

    /// The state is that of the room; of members only what is known must be right, if `lazy`.
    pub(super) fn compare_state(&self, look: &Look<'_>, lazy: bool) {
        let upto = look.room.stays(look.user).last().and_then(|(_, end)| *end);
        let state = look.room.state_before(upto.map_or(look.room.events.len(), |end| end + 1));
        let id = |at: usize| &*look.room.events[at].id;
        for ((kind, key), found) in &self.state {
            let wanted = state.get(&(&**kind, &**key)).map(|at| id(*at));
            assert_eq!(wanted, Some(&**found), "an old {kind} of {key}: {}", look.name());
        }
        for ((kind, key), at) in state {
            let known = self.state.get(&(kind.to_owned(), key.to_owned()));
            let may_lack = lazy && kind == "m.room.member";
            assert!(known.is_some() || may_lack, "no {kind} of {key} ({}): {}", id(at), look.name());
        }
    }

    pub(super) fn compare_members(&self, look: &Look<'_>) {
        let (joined, invited) = (look.room.joined().len(), look.room.with("invite").len());
        assert_eq!(self.joined, Some(joined as u64), "joined: {}", look.name());
        assert_eq!(self.invited.unwrap_or(0), invited as u64, "invited: {}", look.name());
    }

    /// The receipts that the user may know, as they are: each, or as far as another does not say as much.
    pub(super) fn compare_receipts(&self, look: &Look<'_>, is_exact: bool) {
        let is_own = |user: &String| user == look.user;
        let may_know =
            |(of, _): &(&ReceiptOf, &usize)| (is_own(&of.0) || !of.1) && !look.ignored.contains(&of.0);
        let known = |of: &ReceiptOf| self.receipts.get(of).and_then(|id| look.room.place(id));
        let wide = |of: &ReceiptOf| (of.0.clone(), of.1, String::new());
        for (of, at) in look.room.receipts.iter().filter(may_know) {
            let found = known(of);
            if is_exact {
                assert_eq!(found, Some(*at), "{of:?}: {}", look.name());
            } else if is_own(&of.0) && look.room.events[*at].id != of.2 {
                assert!(found.max(known(&wide(of))) >= Some(*at), "{of:?} of {found:?}: {}", look.name());
            }
        }
        for of in self.receipts.keys() {
            let (found, now) = (known(of), look.room.receipts.get(of));
            assert!(may_know(&(of, &0)), "not to be known: {of:?}: {}", look.name());
            let covers = known(&wide(of)).max(found) >= now.copied();
            assert!(found.as_ref() == now || (!is_exact && covers), "old: {of:?}: {}", look.name());
        }
    }

    pub(super) fn compare_rest(&self, look: &Look<'_>) {
        let typing: BTreeSet<String> = look.room.typing.difference(&look.ignored).cloned().collect();
        assert_eq!(self.typing, typing, "typing: {}", look.name());
        compare_data(look.town, (look.user, &look.room.id), &self.data);
    }

    /// Both counts, threads apart if `by_thread`.
    pub(super) fn compare_counts(&self, look: &Look<'_>, by_thread: bool) {
        if look.room.has_lost_mark(look.user) {
            return;
        }
        let (main, threads) = look.room.unread(look.user, &look.ignored);
        if by_thread {
            assert_eq!((self.main, &self.threads), (main, &threads), "unread: {}", look.name());
        } else {
            let total = threads.values().fold(main, |sum, more| (sum.0 + more.0, sum.1 + more.1));
            assert_eq!(self.main, total, "unread: {}", look.name());
        }
    }
}

/// Account data of a room, or the global one.
pub(super) fn compare_data(
    town: &super::town::Town,
    (user, room): (&str, &str),
    found: &BTreeMap<String, Value>,
) {
    for kind in DATA {
        let of = (user.to_owned(), room.to_owned(), String::from(kind));
        assert_eq!(found.get(kind), town.data.get(&of), "{kind} of {user} in {room:?}");
    }
}
