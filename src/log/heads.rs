//! Where each lane was last written, by lane and in the order of the log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Subscriptions;
use crate::{
    limits::LANE_HEADS_MAX,
    types::{Lane, Position},
};

/// The latest position of every lane touched above a floor.
#[derive(Default)]
pub(super) struct Heads {
    of: HashMap<Arc<Lane>, Position>,
    order: BTreeMap<Position, Vec<Arc<Lane>>>,
    /// Lanes that are missing have nothing above this position.
    floor: Position,
}

impl Heads {
    /// Nothing is known below `floor`.
    pub(super) fn new(floor: Position) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Something was written to `lane`.
    pub(super) fn touch(&mut self, lane: &Lane, at: Position) {
        let lane = match self.of.get_key_value(lane) {
            Some((_, head)) if *head >= at => return,
            Some((lane, head)) => {
                let (lane, head) = (lane.clone(), *head);
                if let Some(lanes) = self.order.get_mut(&head) {
                    lanes.retain(|other| *other != lane);
                    if lanes.is_empty() {
                        self.order.remove(&head);
                    }
                }
                lane
            }
            None => {
                if self.of.len() >= LANE_HEADS_MAX {
                    // Forgetting everything is exact as long as the floor says so; it costs some scans.
                    let last = self.order.last_key_value().map(|(last, _)| *last);
                    *self = Self::new(self.floor.max(last.unwrap_or_default()));
                }
                Arc::new(lane.clone())
            }
        };
        self.order.entry(at).or_default().push(lane.clone());
        self.of.insert(lane, at);
    }

    /// Whether `lane` may have something above `from`; never wrong when it says no.
    pub(super) fn may_have(&self, lane: &Lane, from: Position) -> bool {
        match self.of.get(lane) {
            Some(head) => *head > from,
            None => from < self.floor,
        }
    }

    /// The lanes that were written to above `from`; nothing if that is not known.
    pub(super) fn since(&self, from: Position) -> Option<Vec<Lane>> {
        let newer = || self.order.range(from.next()..).flat_map(|(_, lanes)| lanes);
        (from >= self.floor).then(|| newer().map(|lane| Lane::clone(lane)).collect())
    }

    /// Of the lanes in `subscriptions`, those that may have something above `from`. A reader that is
    /// nearly up to date is told at the price of what is new, whatever it reads.
    pub(super) fn beyond(&self, from: Position, subscriptions: &Subscriptions) -> Vec<Lane> {
        if from >= self.floor {
            let newer = self.order.range(from.next()..).flat_map(|(_, lanes)| lanes);
            let mut found = Vec::new();
            let mut left = subscriptions.count();
            for lane in newer {
                if left == 0 {
                    break;
                }
                left -= 1;
                if !subscriptions.intervals(lane).is_empty() {
                    found.push(Lane::clone(lane));
                }
            }
            if left > 0 {
                return found;
            }
        }
        let lanes = subscriptions.latest().map(|(lane, _)| lane);
        lanes.filter(|lane| self.may_have(lane, from)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng, rngs::StdRng};
    use ruma::OwnedServerName;

    use super::*;

    fn lane(n: u8) -> Lane {
        Lane::Outbox(OwnedServerName::try_from(format!("s{n}")).unwrap())
    }

    #[test]
    fn both_ways_of_looking_agree() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..200_u64 {
            let floor = Position(rng.random_range(0..5));
            let mut heads = Heads::new(floor);
            let mut subscriptions = Subscriptions::default();
            for n in 0..rng.random_range(0..6) {
                subscriptions.change(lane(n), true, Position(1));
            }
            for at in floor.0 + 1..30 {
                heads.touch(&lane(rng.random_range(0..10)), Position(at));
            }
            for from in 0..31 {
                let found: BTreeSet<_> = heads.beyond(Position(from), &subscriptions).into_iter().collect();
                let lanes = subscriptions.latest().map(|(lane, _)| lane);
                let expected = lanes.filter(|lane| heads.may_have(lane, Position(from))).cloned().collect();
                assert_eq!(found, expected, "round {round} from {from}");
            }
        }
    }
}
