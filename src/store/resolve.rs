//! The judgement that every engine shares: from batches and what they must look at, to plain puts
//! and deletes with positions filled in.
//!
//! Pure, so that it is one thing on every engine. An engine asks [`needed`] what to read, reads it,
//! and calls [`resolve`]; nothing else may write in between.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Key, Outcome, Write};
use crate::types::Position;

/// What has to be read before a group can be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Single rows: expectations and register indexes.
    pub keys: Vec<Key>,
    /// Ranges whose keys (not values) matter, because they are to be removed.
    pub ranges: Vec<(Key, Key)>,
}

/// A judged group: blind puts and deletes, which may be replayed any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// One outcome for each batch, in order.
    pub outcomes: Vec<Outcome>,
    /// The final value of every row touched; `None` removes it. In key order.
    pub writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// Those of the keys that hold a position of this group: no such row was ever there before.
    pub fresh: BTreeSet<Key>,
    /// How many positions the group took.
    pub taken: u64,
}

/// What `group` must look at.
#[must_use]
pub fn needed(group: &[Batch]) -> Needed {
    let mut needed = Needed::default();
    for batch in group {
        needed.keys.extend(batch.expects.iter().map(|expect| expect.key().clone()));
        for write in &batch.writes {
            match write {
                Write::Register { index, .. } => needed.keys.push(index.clone()),
                Write::DeleteRange(from, to) => needed.ranges.push((from.clone(), to.clone())),
                Write::Put(..) | Write::Delete(_) => {}
            }
        }
    }
    needed.keys.sort();
    needed.keys.dedup();
    needed
}

/// Judges `group` in order. `head` is the highest position assigned before; `rows` holds the rows
/// found for [`Needed::keys`], `range_keys` the keys found in each of [`Needed::ranges`], in order.
#[must_use]
pub fn resolve(
    group: Vec<Batch>,
    head: Position,
    rows: &BTreeMap<Key, Vec<u8>>,
    range_keys: Vec<Vec<Key>>,
) -> Resolved {
    let mut group_writes = GroupWrites::default();
    let mut range_keys = range_keys.into_iter();
    let mut outcomes = Vec::with_capacity(group.len());
    let mut taken = 0;
    for batch in group {
        let ranges = batch.writes.iter().filter(|write| matches!(write, Write::DeleteRange(..))).count();
        let stored: Vec<Vec<Key>> = range_keys.by_ref().take(ranges).collect();
        if let Some(refused) = refusal(&batch, &group_writes.rows, rows) {
            outcomes.push(refused);
            continue;
        }
        let first = Position(head.0 + taken + u64::from(batch.slots > 0));
        taken += u64::from(batch.slots);
        apply(batch.writes, first, &mut group_writes, Stored { rows, ranges: stored });
        outcomes.push(Outcome::Done { first });
    }
    Resolved { outcomes, writes: group_writes.rows, fresh: group_writes.fresh, taken }
}

/// What the batches so far come to.
#[derive(Default)]
struct GroupWrites {
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    fresh: BTreeSet<Key>,
}

impl GroupWrites {
    fn put_fresh(&mut self, key: Key, value: Vec<u8>) {
        self.fresh.insert(key.clone());
        self.rows.insert(key, Some(value));
    }
}

fn refusal(
    batch: &Batch,
    group_writes: &BTreeMap<Key, Option<Vec<u8>>>,
    rows: &BTreeMap<Key, Vec<u8>>,
) -> Option<Outcome> {
    batch.expects.iter().enumerate().find_map(|(index, expect)| {
        let found = match group_writes.get(expect.key()) {
            Some(written) => written.as_ref(),
            None => rows.get(expect.key()),
        };
        match expect.holds(found.map(Vec::as_slice)) {
            true => None,
            false => Some(Outcome::Refused { expect: index, found: found.cloned() }),
        }
    })
}

struct Stored<'a> {
    rows: &'a BTreeMap<Key, Vec<u8>>,
    ranges: Vec<Vec<Key>>,
}

fn apply(writes: Vec<Write>, first: Position, group: &mut GroupWrites, stored: Stored<'_>) {
    let mut ranges = stored.ranges.into_iter();
    for write in writes {
        match write {
            Write::Put(key, value) => {
                let is_fresh = key.stamp.is_some();
                let (key, value) = (Key(key.fill(first)), value.fill(first));
                match is_fresh {
                    true => group.put_fresh(key, value),
                    false => drop(group.rows.insert(key, Some(value))),
                }
            }
            Write::Delete(key) => {
                group.rows.insert(key, None);
            }
            Write::DeleteRange(from, to) => {
                let fresh: Vec<Key> = match from < to {
                    true => group.rows.range(from..to).map(|(key, _)| key.clone()).collect(),
                    false => Vec::new(),
                };
                for key in ranges.next().unwrap_or_default().into_iter().chain(fresh) {
                    group.rows.insert(key, None);
                }
            }
            Write::Register { index, lane, value, slot } => {
                let old = match group.rows.get(&index) {
                    Some(written) => written.as_ref(),
                    None => stored.rows.get(&index),
                };
                if let Some(old) = old {
                    group.rows.insert(Key([lane.as_slice(), old.as_slice()].concat()), None);
                }
                let position = (first.0 + u64::from(slot)).to_be_bytes();
                group.put_fresh(Key([lane.as_slice(), position.as_slice()].concat()), value);
                group.rows.insert(index, Some(position.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expect, Stamped, table::TableId};

    fn key(name: &str) -> Key {
        Key::new(TableId::Meta, &(name.to_owned(),))
    }

    fn put(name: &str, value: &str) -> Write {
        Write::Put(Stamped::plain(key(name).0), Stamped::plain(value.into()))
    }

    #[test]
    fn a_batch_sees_what_its_group_wrote_before() {
        let claim = |value: &str| Batch {
            expects: vec![Expect::Absent(key("name"))],
            writes: vec![put("name", value)],
            slots: 1,
        };
        let resolved = resolve(vec![claim("one"), claim("two")], Position(7), &BTreeMap::new(), Vec::new());
        assert_eq!(resolved.outcomes[0], Outcome::Done { first: Position(8) });
        assert_eq!(resolved.outcomes[1], Outcome::Refused { expect: 0, found: Some("one".into()) });
        assert_eq!(resolved.taken, 1, "a refused batch takes no position");
        assert_eq!(resolved.writes[&key("name")], Some("one".into()));
    }

    #[test]
    fn a_register_leaves_only_its_newest_row() {
        let register = || Batch {
            expects: Vec::new(),
            writes: vec![Write::Register {
                index: key("index"),
                lane: key("lane").0,
                value: vec![1],
                slot: 0,
            }],
            slots: 1,
        };
        let row = |position: u64| Key([key("lane").0, position.to_be_bytes().to_vec()].concat());
        let rows = BTreeMap::from([(key("index"), 3_u64.to_be_bytes().to_vec())]);
        let resolved = resolve(vec![register(), register()], Position(9), &rows, Vec::new());
        assert_eq!(resolved.writes[&row(3)], None);
        assert_eq!(resolved.writes[&row(10)], None);
        assert_eq!(resolved.writes[&row(11)], Some(vec![1]));
        assert_eq!(resolved.fresh, BTreeSet::from([row(10), row(11)]), "the index and row 3 were there");
        assert_eq!(resolved.writes[&key("index")], Some(11_u64.to_be_bytes().to_vec()));
    }

    #[test]
    fn a_range_takes_stored_rows_and_those_of_the_group() {
        let wipe = Batch {
            expects: Vec::new(),
            writes: vec![put("b1", "x"), Write::DeleteRange(key("b"), key("c")), put("b2", "y")],
            slots: 0,
        };
        let resolved = resolve(vec![wipe], Position(0), &BTreeMap::new(), vec![vec![key("b0")]]);
        assert_eq!(resolved.writes[&key("b0")], None);
        assert_eq!(resolved.writes[&key("b1")], None);
        assert_eq!(resolved.writes[&key("b2")], Some("y".into()));
    }
}
