//! The conflicted state subgraph, at the price of the shorter way.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{OwnedEventId, state_res::utils::event_id_set::EventIdSet};

use super::index::{Lore, Need, authorises};

/// How many events each of the two walks takes before the other goes on.
const TURN: usize = 64;

/// The events on paths of auth events from one conflicted event to another, in the making.
///
/// Such an event is stood on by a conflicted event, and stands on one. So there are two sets that contain
/// all of them: what the conflicted events stand on, and what stands on them. Both are walked in turn; as
/// soon as one is complete, the other need not be. Conflicts are mostly recent, and little stands on them;
/// and where one is old, the room's chains are mostly short.
///
/// <https://spec.matrix.org/v1.19/rooms/v12/#definitions>
#[derive(Debug)]
pub(super) struct Between {
    conflicted: BTreeSet<OwnedEventId>,
    back: Reach,
    forth: Reach,
    /// Of what stands on the conflicted events, what they stand on; once the former is complete.
    within: Option<Reach>,
}

#[derive(Debug)]
struct Reach {
    queue: Vec<OwnedEventId>,
    seen: HashSet<OwnedEventId>,
}

impl Reach {
    fn from(start: &BTreeSet<OwnedEventId>) -> Self {
        Self { queue: start.iter().cloned().collect(), seen: start.iter().cloned().collect() }
    }

    fn enter(&mut self, id: &OwnedEventId) {
        if !self.seen.contains(id) {
            self.seen.insert(id.clone());
            self.queue.push(id.clone());
        }
    }

    /// Takes up to a turn of events; `follow` says what comes after one, or notes what it needs.
    fn advance(&mut self, mut follow: impl FnMut(&OwnedEventId) -> Option<Vec<OwnedEventId>>) {
        let turn = self.queue.split_off(self.queue.len().saturating_sub(TURN));
        for id in turn {
            match follow(&id) {
                Some(next) => next.iter().for_each(|next| self.enter(next)),
                None => self.queue.push(id),
            }
        }
    }
}

impl Between {
    pub(super) fn new(conflicted: BTreeSet<OwnedEventId>) -> Self {
        let (back, forth) = (Reach::from(&conflicted), Reach::from(&conflicted));
        Self { conflicted, back, forth, within: None }
    }

    /// Walks on; `None` if `need` says what is lacking.
    pub(super) fn walk(&mut self, lore: &impl Lore, need: &mut Need) -> Option<EventIdSet<OwnedEventId>> {
        while self.within.is_none() {
            let mut lacking = Need::default();
            self.back.advance(|id| back(id, lore, &mut lacking));
            if self.back.queue.is_empty() {
                return Some(self.end(lore));
            }
            self.forth.advance(|id| forth(id, lore, &mut lacking));
            if self.forth.queue.is_empty() {
                self.within = Some(Reach::from(&self.conflicted));
            } else if !lacking.is_empty() {
                need.events.append(&mut lacking.events);
                need.citers.append(&mut lacking.citers);
                return None;
            }
        }
        let within = self.within.as_mut()?;
        while !within.queue.is_empty() {
            let mut lacking = Need::default();
            within.advance(|id| {
                let mut parents = back(id, lore, &mut lacking)?;
                parents.retain(|parent| self.forth.seen.contains(parent));
                Some(parents)
            });
            if !lacking.is_empty() {
                need.events.append(&mut lacking.events);
                return None;
            }
        }
        Some(within.seen.iter().cloned().collect())
    }

    /// Of what the conflicted events stand on, what stands on one of them.
    fn end(&self, lore: &impl Lore) -> EventIdSet<OwnedEventId> {
        let mut citers: HashMap<&OwnedEventId, Vec<&OwnedEventId>> = HashMap::new();
        for id in &self.back.seen {
            for parent in lore.auth_events(id).unwrap_or_default() {
                citers.entry(parent).or_default().push(id);
            }
        }
        let mut queue: Vec<&OwnedEventId> = self.conflicted.iter().collect();
        let mut found: HashSet<&OwnedEventId> = queue.iter().copied().collect();
        while let Some(id) = queue.pop() {
            let next = citers.get(id).into_iter().flatten().copied();
            queue.extend(next.filter(|citer| found.insert(citer)));
        }
        found.into_iter().cloned().collect()
    }
}

fn back(id: &OwnedEventId, lore: &impl Lore, need: &mut Need) -> Option<Vec<OwnedEventId>> {
    let auth_events = lore.auth_events(id);
    if auth_events.is_none() {
        need.events.insert(id.clone());
    }
    auth_events.map(<[OwnedEventId]>::to_vec)
}

fn forth(id: &OwnedEventId, lore: &impl Lore, need: &mut Need) -> Option<Vec<OwnedEventId>> {
    let citers = lore.citers(id).filter(|citers| citers.is_whole);
    if citers.is_none() {
        need.citers.insert(id.clone());
    }
    // An event that nothing can stand on is no step on the way to a conflicted one.
    let found = citers?.found.iter().filter(|citer| authorises(&citer.place.event_type));
    Some(found.map(|citer| citer.event_id.clone()).collect())
}
