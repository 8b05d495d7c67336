//! The auth difference of several states, at the price of what differs.

use std::collections::{BTreeSet, HashMap};

use ruma::{OwnedEventId, state_res::utils::event_id_set::EventIdSet};

use super::index::{Lore, Need, Shared};

/// How many events are looked at ahead when something has to be loaded.
const AHEAD_MAX: usize = 256;

/// Which of the states; one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    pub(super) fn all(count: usize) -> Self {
        let mut bits = Self::none(count);
        (0..count).for_each(|index| bits.set(index));
        bits
    }

    pub(super) fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(super) fn clear(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Says whether that made more of them.
    pub(super) fn add(&mut self, other: &Self) -> bool {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        let mut has_more = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            has_more |= *more & !*word != 0;
            *word |= more;
        }
        has_more
    }
}

/// The auth difference in the making: the events that are in the auth chains of some of the states, but not
/// of all.
///
/// It is enough to walk back from where the states differ, as long as what comes is neither in the auth chain
/// of what they have in common, for that is in all chains; nor known by then to be in all chains, for so is all
/// that it stands on. The newest come first, so that by their turn most is known of the older ones. Where that
/// order was wrong (depths say what their servers want), the last look at what was found puts it right.
///
/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// What has more to pass on to its auth events, by depth; those that must be loaded first come first.
    queue: BTreeSet<(u64, OwnedEventId)>,
    /// The events walked over, with those of their auth events that are not shared.
    region: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    /// Which states have an event among those in which they differ.
    roots: HashMap<OwnedEventId, Bits>,
    /// Which states have an event in their auth chains, as far as that is known.
    chains: HashMap<OwnedEventId, Bits>,
    none: Bits,
    all: Bits,
    shared: Shared,
    /// Whether an event was found to be in all chains.
    is_narrowed: bool,
    /// What is still to be looked at again; present once the walk is done.
    doubtful: Option<Vec<OwnedEventId>>,
}

impl Difference {
    /// `roots` says of the events in which the `count` states differ which state has which.
    pub(super) fn new(roots: HashMap<OwnedEventId, Bits>, count: usize) -> Self {
        let queue = roots.keys().map(|id| (u64::MAX, id.clone())).collect();
        Self { queue, roots, none: Bits::none(count), all: Bits::all(count), ..Self::default() }
    }

    /// Walks on as far as what is at hand allows; `need` says what is lacking. The walk is done when that is
    /// nothing.
    pub(super) fn walk(&mut self, lore: &impl Lore, need: &mut Need) {
        // One that waited for the end of another's search is taken up again once that is done.
        while !self.queue.is_empty() && need.is_empty() {
            self.pass(lore, need);
        }
        if need.is_empty() && self.is_narrowed {
            self.look_again(lore, need);
        }
    }

    fn pass(&mut self, lore: &impl Lore, need: &mut Need) {
        // Whoever asked may not need the answer any more.
        self.shared.go_on(lore, need);
        let mut waiting = Vec::new();
        while let Some((depth, id)) = self.queue.pop_last() {
            let is_walked = self.region.contains_key(&id);
            match lore.depth(&id) {
                _ if !is_walked && self.is_in_all(&id) => continue,
                // Its place in the queue was not known.
                Some(known) if known != depth && !is_walked => {
                    self.queue.insert((known, id));
                    continue;
                }
                _ => {}
            }
            match is_walked || self.expand(&id, lore, need) {
                true => self.pass_on(&id, lore),
                false => {
                    waiting.push((depth, id));
                    if waiting.len() >= AHEAD_MAX {
                        break;
                    }
                }
            }
        }
        self.queue.extend(waiting);
    }

    fn is_in_all(&self, id: &OwnedEventId) -> bool {
        self.chains.get(id) == Some(&self.all)
    }

    /// Notes which auth events of an event are not shared; false if `need` says what is lacking for that.
    fn expand(&mut self, id: &OwnedEventId, lore: &impl Lore, need: &mut Need) -> bool {
        let Some(auth_events) = lore.auth_events(id) else {
            need.events.insert(id.clone());
            return false;
        };
        let mut unshared = Vec::new();
        let mut is_known = true;
        for parent in auth_events {
            match self.shared.contains(parent, lore, need) {
                Some(true) => {}
                Some(false) => unshared.push(parent.clone()),
                None => is_known = false,
            }
        }
        if is_known {
            self.region.insert(id.clone(), unshared);
        }
        is_known
    }

    /// Whatever has `id`, or has it in its chain, has its auth events in its chain.
    fn pass_on(&mut self, id: &OwnedEventId, lore: &impl Lore) {
        let mut bits = self.chains.get(id).unwrap_or(&self.none).clone();
        if let Some(own) = self.roots.get(id) {
            bits.add(own);
        }
        for parent in self.region.get(id).into_iter().flatten() {
            let known = self.chains.entry(parent.clone()).or_insert_with(|| self.none.clone());
            if !known.add(&bits) {
                continue;
            }
            let is_in_all = *known == self.all;
            if is_in_all {
                self.shared.learn(parent);
                self.is_narrowed = true;
            }
            // What was not walked over yet, and is in all, need not be.
            if !is_in_all || self.region.contains_key(parent) {
                self.queue.insert((lore.depth(parent).unwrap_or(u64::MAX), parent.clone()));
            }
        }
    }

    /// What was walked over before something that stands on it was found to be in all chains.
    fn look_again(&mut self, lore: &impl Lore, need: &mut Need) {
        let mut doubtful = match self.doubtful.take() {
            Some(doubtful) => doubtful,
            None => {
                self.shared.forget_others();
                self.found().cloned().collect()
            }
        };
        while let Some(id) = doubtful.last() {
            match self.shared.contains(id, lore, need) {
                Some(true) => drop(self.chains.insert(id.clone(), self.all.clone())),
                Some(false) => {}
                None => break,
            }
            doubtful.pop();
        }
        self.doubtful = Some(doubtful);
    }

    fn found(&self) -> impl Iterator<Item = &OwnedEventId> {
        self.chains.iter().filter(|(_, bits)| !bits.is_none() && **bits != self.all).map(|(id, _)| id)
    }

    /// What is in the chains of some, when the walk is done.
    pub(super) fn end(&self) -> EventIdSet<OwnedEventId> {
        self.found().cloned().collect()
    }
}
