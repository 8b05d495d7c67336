//! How much one transaction for an application service carries, and where a page is cut that holds more.

use std::collections::BTreeSet;

use ruma::OwnedRoomId;

use crate::{
    limits::{APPSERVICE_BYTES_MAX, APPSERVICE_EDUS_MAX, APPSERVICE_EVENTS_MAX, APPSERVICE_MESSAGES_MAX},
    types::Position,
};

/// What may be in a transaction, unless a single item is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Items: what is at one position of the log, or one message to a device.
    items: usize,
    edus: usize,
    /// Of messages to devices, and of the rest.
    pub(super) bytes: usize,
}

impl Budget {
    /// What is tried after so many refusals: half as much after each, down to a single item.
    pub(super) fn after(refusals: u32) -> Self {
        let halved = |whole: usize| whole.checked_shr(refusals).unwrap_or_default().max(1);
        Self {
            // What is small is not counted before something was refused.
            items: if refusals == 0 { usize::MAX } else { halved(APPSERVICE_EVENTS_MAX) },
            edus: halved(APPSERVICE_EDUS_MAX),
            bytes: halved(APPSERVICE_BYTES_MAX / 2),
        }
    }

    /// How many messages to devices.
    pub(super) fn messages(self) -> usize {
        self.items.min(APPSERVICE_MESSAGES_MAX)
    }

    /// Whether only one item goes at a time, so that it is known what is refused.
    pub(super) fn is_single(self) -> bool {
        self.items == 1
    }
}

/// What makes an ephemeral event of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edu {
    /// It is one by itself.
    Alone,
    /// All receipts of a room are one.
    Receipts(OwnedRoomId),
}

#[derive(Debug)]
struct Weight {
    at: Position,
    bytes: usize,
    edu: Option<Edu>,
}

/// What is in a page, by where in the log it is.
#[derive(Debug, Default)]
pub(super) struct Weights(Vec<Weight>);

impl Weights {
    pub(super) fn add(&mut self, at: Position, bytes: usize, edu: Option<Edu>) {
        self.0.push(Weight { at, bytes, edu });
    }

    /// At how many positions there is something.
    pub(super) fn items(&self) -> usize {
        self.0.iter().map(|weight| weight.at).collect::<BTreeSet<_>>().len()
    }

    /// Up to where `budget` reaches, unless it is enough for all. What is at one position is not divided.
    pub(super) fn cut(&mut self, budget: Budget) -> Option<Position> {
        self.0.sort_by_key(|weight| weight.at);
        let (mut items, mut edus, mut bytes) = (0, 0, 0);
        let (mut rooms, mut fits) = (BTreeSet::new(), None);
        for item in self.0.chunk_by(|a, b| a.at == b.at) {
            items += 1;
            for weight in item {
                bytes += weight.bytes;
                edus += match &weight.edu {
                    None => 0,
                    Some(Edu::Alone) => 1,
                    Some(Edu::Receipts(room)) => usize::from(rooms.insert(room)),
                };
            }
            let is_over = items > budget.items || edus > budget.edus || bytes > budget.bytes;
            if is_over && fits.is_some() {
                return fits;
            }
            fits = Some(item[0].at);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::{Budget, Edu, Weights};
    use crate::types::Position;

    const HALF: usize = super::APPSERVICE_BYTES_MAX / 2;

    /// `(position, bytes, what of an EDU)`: 0 for none, 1 for one alone, 2 for a receipt of a room.
    #[track_caller]
    fn check(refusals: u32, items: &[(u64, usize, u8)], expected: Option<u64>) {
        let mut weights = Weights::default();
        for (at, bytes, edu) in items {
            let receipts = || Edu::Receipts(owned_room_id!("!room:a.org"));
            let edu = [None, Some(Edu::Alone), Some(receipts())][usize::from(*edu)].clone();
            weights.add(Position(*at), *bytes, edu);
        }
        assert_eq!(weights.cut(Budget::after(refusals)), expected.map(Position));
    }

    #[test]
    fn a_page_is_cut_before_what_is_too_much() {
        let edus = |edu| (1..=101).map(|at| (at, 1, edu)).collect::<Vec<_>>();
        for (refusals, items, expected) in [
            (0, vec![], None),
            (0, vec![(1, HALF, 0)], None),
            (0, vec![(2, 1, 0), (1, HALF, 0)], Some(1)),
            (0, vec![(1, 1, 0), (2, HALF, 0), (3, 1, 0)], Some(1)),
            // What is at one position goes together, however much it is.
            (0, vec![(5, HALF, 0), (5, HALF, 0)], None),
            (0, vec![(5, HALF, 0), (5, HALF, 0), (6, 0, 0)], Some(5)),
            (0, edus(0), None),
            (0, edus(1), Some(100)),
            (0, edus(2), None),
            (1, edus(0), Some(50)),
            (1, vec![(1, HALF / 2, 0), (2, 1, 0)], Some(1)),
            (6, edus(0), Some(1)),
            (99, edus(0), Some(1)),
        ] {
            check(refusals, &items, expected);
        }
        assert!(Budget::after(7).is_single() && !Budget::after(5).is_single());
    }
}
