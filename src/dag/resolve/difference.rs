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

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }
}

/// The auth difference in the making: the events that are in the auth chains of some of the states, but not
/// of all.
///
/// It is enough to walk back from where the states differ, as long as what comes is not in the auth chain
/// of what they have in common, for that is in all chains.
///
/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
#[derive(Debug, Default)]
pub(super) struct Difference {
    queue: Vec<OwnedEventId>,
    /// The events walked over, with those of their auth events that are not shared.
    region: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    shared: Shared,
}

impl Difference {
    pub(super) fn from<'a>(conflicted: impl Iterator<Item = &'a OwnedEventId>) -> Self {
        let queue: BTreeSet<OwnedEventId> = conflicted.cloned().collect();
        Self { queue: queue.into_iter().collect(), ..Self::default() }
    }

    /// Walks on as far as what is at hand allows; `need` says what is lacking. The walk is done when that is
    /// nothing.
    pub(super) fn walk(&mut self, lore: &impl Lore, need: &mut Need) {
        // One that waited for the end of another's search is taken up again once that is done.
        while !self.queue.is_empty() && need.is_empty() {
            self.pass(lore, need);
        }
    }

    fn pass(&mut self, lore: &impl Lore, need: &mut Need) {
        let mut waiting = Vec::new();
        while let Some(id) = self.queue.pop() {
            if self.region.contains_key(&id) {
                continue;
            }
            match self.unshared(&id, lore, need) {
                Some(unshared) => {
                    self.queue.extend(unshared.iter().cloned());
                    self.region.insert(id, unshared);
                }
                None => {
                    waiting.push(id);
                    if waiting.len() >= AHEAD_MAX {
                        break;
                    }
                }
            }
        }
        self.queue.extend(waiting.into_iter().rev());
    }

    fn unshared(
        &mut self,
        id: &OwnedEventId,
        lore: &impl Lore,
        need: &mut Need,
    ) -> Option<Vec<OwnedEventId>> {
        let Some(auth_events) = lore.auth_events(id) else {
            need.events.insert(id.clone());
            return None;
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
        is_known.then_some(unshared)
    }

    /// What is in the chains of some, when the walk is done. `roots` says of the events in which the
    /// `count` states differ which state has which.
    pub(super) fn end(&self, roots: &HashMap<&OwnedEventId, Bits>, count: usize) -> EventIdSet<OwnedEventId> {
        let mut citers: HashMap<&OwnedEventId, usize> = HashMap::new();
        for parent in self.region.values().flatten() {
            *citers.entry(parent).or_default() += 1;
        }
        let mut ready: Vec<&OwnedEventId> =
            self.region.keys().filter(|id| !citers.contains_key(id)).collect();
        let mut chains: HashMap<&OwnedEventId, Bits> = HashMap::new();
        let mut difference = EventIdSet::new();
        let all = Bits::all(count);
        while let Some(id) = ready.pop() {
            let mut bits = chains.remove(id).unwrap_or_else(|| Bits::none(count));
            if !bits.is_none() && bits != all {
                difference.insert(id.clone());
            }
            if let Some(own) = roots.get(id) {
                bits.add(own);
            }
            for parent in self.region.get(id).into_iter().flatten() {
                chains.entry(parent).or_insert_with(|| Bits::none(count)).add(&bits);
                if let Some(left) = citers.get_mut(parent) {
                    *left -= 1;
                    if *left == 0 {
                        ready.push(parent);
                    }
                }
            }
        }
        difference
    }
}
