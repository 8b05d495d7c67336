//! Who may read which lane, from when to when.

use std::collections::HashMap;

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};

use crate::types::{Lane, Position};

/// On whose behalf a lane is read: all devices of an account read alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// A local user's devices.
    Account(OwnedUserId),
    /// A remote server.
    Server(OwnedServerName),
}

/// The positions over which a lane is read, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The position of the join.
    pub opened: Position,
    /// The position of the leave, unless it lasts.
    pub closed: Option<Position>,
}

/// Everything that an audience reads or has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    lanes: HashMap<Lane, Vec<Interval>>,
}

impl Subscriptions {
    /// The intervals of a lane, oldest first; empty if it was never read.
    #[must_use]
    pub fn intervals(&self, lane: &Lane) -> &[Interval] {
        self.lanes.get(lane).map_or(&[], Vec::as_slice)
    }

    /// Whether the lane is read now.
    #[must_use]
    pub fn is_open(&self, lane: &Lane) -> bool {
        self.intervals(lane).last().is_some_and(|interval| interval.closed.is_none())
    }

    /// How many lanes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// All lanes with their latest interval.
    pub fn latest(&self) -> impl Iterator<Item = (&Lane, Interval)> {
        self.lanes.iter().filter_map(|(lane, intervals)| Some((lane, *intervals.last()?)))
    }

    /// The rooms whose lanes are open.
    pub fn open_rooms(&self) -> impl Iterator<Item = &OwnedRoomId> {
        self.latest().filter_map(|(lane, interval)| match (lane, interval.closed) {
            (Lane::Room(room), None) => Some(room),
            _ => None,
        })
    }

    /// Follows one change; a repeated opening or closing changes nothing.
    pub(super) fn change(&mut self, lane: Lane, opens: bool, at: Position) {
        let intervals = self.lanes.entry(lane).or_default();
        match (intervals.last_mut(), opens) {
            (Some(Interval { closed: None, .. }), true) => {}
            (_, true) => intervals.push(Interval { opened: at, closed: None }),
            (Some(last @ Interval { closed: None, .. }), false) => last.closed = Some(at),
            (_, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(changes: &[(bool, u64)], expected: &[(u64, Option<u64>)]) {
        let mut subscriptions = Subscriptions::default();
        for (opens, at) in changes {
            subscriptions.change(Lane::People, *opens, Position(*at));
        }
        let found: Vec<_> = subscriptions
            .intervals(&Lane::People)
            .iter()
            .map(|interval| (interval.opened.0, interval.closed.map(|closed| closed.0)))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn changes_become_intervals() {
        check(&[], &[]);
        check(&[(true, 3)], &[(3, None)]);
        check(&[(true, 3), (true, 5)], &[(3, None)]);
        check(&[(true, 3), (false, 5)], &[(3, Some(5))]);
        check(&[(true, 3), (false, 5), (false, 6), (true, 9)], &[(3, Some(5)), (9, None)]);
        check(&[(false, 5)], &[]);
    }
}
