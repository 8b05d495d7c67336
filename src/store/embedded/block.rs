//! Many index entries in one value of sled: neighbours, sorted, each key without what it shares with the
//! key before.
//!
//! sled spends three to five times the size of small rows on each of them; packed like this they take a
//! third of the space and of the memory.

use std::collections::VecDeque;

use super::wire::{Wire, put_varint};
use crate::store::Key;

/// A block is split when it is longer than this.
pub(super) const MAX_BYTES: usize = 2_048;
/// A block that is shorter takes in its neighbour.
pub(super) const MIN_BYTES: usize = MAX_BYTES / 4;
const FULL_BYTES: usize = MAX_BYTES * 9 / 10;
const FORMAT: u8 = 1;
/// The positions at the end of lane keys.
const POSITION_BYTES: usize = 8;

/// A key and its encoded entry.
pub(super) type Slot = (Key, Vec<u8>);

/// The value for `slots`, which are sorted.
pub(super) fn encode(slots: &[Slot]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    let mut last: &[u8] = &[];
    for (key, entry) in slots {
        let shared = shared(last, &key.0);
        put_varint(&mut out, shared as u64);
        put_varint(&mut out, (key.0.len() - shared) as u64);
        out.extend_from_slice(&key.0[shared..]);
        put_varint(&mut out, entry.len() as u64);
        out.extend_from_slice(entry);
        last = &key.0;
    }
    out
}

/// The slots of a value; `None` when it is none of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Slot>> {
    let mut slots: Vec<Slot> = Vec::new();
    walk(bytes, |key, entry| {
        slots.push((Key(key.to_vec()), entry.to_vec()));
        true
    })?;
    Some(slots)
}

/// The entry of `wanted` in a value; `None` when the value is none of ours.
pub(super) fn find(bytes: &[u8], wanted: &Key) -> Option<Option<Vec<u8>>> {
    let mut found = None;
    walk(bytes, |key, entry| {
        if key == wanted.0 {
            found = Some(entry.to_vec());
        }
        key < wanted.0.as_slice()
    })?;
    Some(found)
}

/// Which slots of a value are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The first key of the range.
    pub(super) from: &'a Key,
    /// The first key beyond the range.
    pub(super) to: &'a Key,
    /// At most so many slots …
    pub(super) most: usize,
    /// … from the end of the range instead of its beginning.
    pub(super) last: bool,
}

/// Some slots of a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// The slots, sorted.
    pub(super) slots: VecDeque<Slot>,
    /// Whether what lies beyond the value cannot be in the range either, seen in its direction.
    pub(super) ends: bool,
}

/// The slots of a value that are wanted, without a copy of the others; `None` when it is none of ours.
pub(super) fn part(bytes: &[u8], wanted: &Wanted<'_>) -> Option<Part> {
    let (from, to) = (wanted.from.0.as_slice(), wanted.to.0.as_slice());
    let (mut inside, mut below, mut above) = (0_usize, false, false);
    let mut slots = VecDeque::new();
    walk(bytes, |key, entry| {
        below |= key < from;
        above |= key >= to;
        if key >= from && key < to {
            inside += 1;
            if !wanted.last {
                slots.push_back((Key(key.to_vec()), entry.to_vec()));
            }
        }
        !above && (wanted.last || slots.len() < wanted.most)
    })?;
    if wanted.last && inside > 0 {
        let mut skip = inside.saturating_sub(wanted.most);
        walk(bytes, |key, entry| {
            if key >= from && key < to {
                match skip {
                    0 => slots.push_back((Key(key.to_vec()), entry.to_vec())),
                    _ => skip -= 1,
                }
            }
            key < to
        })?;
    }
    let ends = if wanted.last { below && inside <= wanted.most } else { above };
    Some(Part { slots, ends })
}

/// Calls `each` with key and entry until it gives `false`.
fn walk(bytes: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Option<()> {
    let mut wire = Wire::new(bytes);
    if wire.u8()? != FORMAT {
        return None;
    }
    let mut key: Vec<u8> = Vec::new();
    while !wire.is_empty() {
        let shared = usize::try_from(wire.varint()?).ok()?;
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(wire.counted()?);
        if !each(&key, wire.counted()?) {
            break;
        }
    }
    Some(())
}

/// How slots came to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Anywhere: what is split should have room on both sides.
    Scattered,
    /// One after another up to this index: what is before will not grow any more.
    Sequential(usize),
}

/// Cuts `slots` into blocks.
pub(super) fn cut(slots: Vec<Slot>, growth: Growth) -> Vec<Vec<Slot>> {
    let total = length(&slots);
    if total <= MAX_BYTES {
        return if slots.is_empty() { Vec::new() } else { vec![slots] };
    }
    match growth {
        Growth::Scattered => fill(slots, total / total.div_ceil(MAX_BYTES * 2 / 3) + 1),
        Growth::Sequential(end) => {
            let mut before = slots;
            let after = before.split_off(end.min(before.len()));
            let mut blocks = fill(before, FULL_BYTES);
            let rest = length(&after);
            if rest > 0 {
                blocks.extend(fill(after, rest / rest.div_ceil(FULL_BYTES) + 1));
            }
            blocks
        }
    }
}

fn fill(slots: Vec<Slot>, bytes: usize) -> Vec<Vec<Slot>> {
    let mut blocks: Vec<Vec<Slot>> = Vec::new();
    let mut used = usize::MAX;
    let mut last = Key(Vec::new());
    for slot in slots {
        let cost = cost(&last, &slot);
        last.clone_from(&slot.0);
        match blocks.last_mut() {
            Some(block) if used + cost <= bytes => {
                used += cost;
                block.push(slot);
            }
            _ => {
                used = slot.0.0.len() + slot.1.len() + 4;
                blocks.push(vec![slot]);
            }
        }
    }
    blocks
}

/// About how long the value for `slots` is.
pub(super) fn length(slots: &[Slot]) -> usize {
    let mut last = &Key(Vec::new());
    let mut total = 1;
    for slot in slots {
        total += cost(last, slot);
        last = &slot.0;
    }
    total
}

fn cost(last: &Key, (key, entry): &Slot) -> usize {
    key.0.len() - shared(&last.0, &key.0) + entry.len() + 4
}

fn shared(last: &[u8], key: &[u8]) -> usize {
    last.iter().zip(key).take_while(|(a, b)| a == b).count()
}

/// Whether `key` is a later position in the lane of `before`.
pub(super) fn follows(before: &Key, key: &Key) -> bool {
    let lane = before.0.len().checked_sub(POSITION_BYTES);
    let same = |end| before.0[..end] == key.0[..end];
    before.0.len() == key.0.len() && before < key && lane.is_some_and(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(count: u32) -> Vec<Slot> {
        (0..count).map(|n| (Key(format!("some/lane/{n:06}").into_bytes()), vec![n as u8; 14])).collect()
    }

    #[test]
    fn blocks_read_back_and_nonsense_is_none() {
        for count in [0, 1, 40] {
            let bytes = encode(&slots(count));
            assert_eq!(decode(&bytes), Some(slots(count)));
            for (key, entry) in slots(count) {
                assert_eq!(find(&bytes, &key), Some(Some(entry)));
            }
            assert_eq!(find(&bytes, &Key(b"some/lane/0000005".to_vec())), Some(None));
        }
        let bytes = encode(&slots(9));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[7, 0]), None);
        assert_eq!(decode(&[1, 5, 1, 1, 0]), None, "nothing to share with");
    }

    #[test]
    fn a_part_is_what_filtering_all_of_it_gives() {
        let bytes = encode(&slots(40));
        let key = |n: usize| Key(format!("some/lane/{n:06}").into_bytes());
        for (from, to) in [(0, 40), (0, 41), (3, 9), (9, 9), (38, 60), (50, 60)] {
            for (most, last) in [(usize::MAX, false), (4, false), (usize::MAX, true), (4, true)] {
                let (low, high) = (key(from), key(to));
                let wanted = Wanted { from: &low, to: &high, most, last };
                let part = part(&bytes, &wanted).unwrap();
                let all: Vec<Slot> =
                    slots(40).into_iter().filter(|(key, _)| *key >= low && *key < high).collect();
                let kept = all.len().min(most);
                let expected = if last { &all[all.len() - kept..] } else { &all[..kept] };
                assert!(part.slots.iter().eq(expected), "{from} {to} {most} {last}");
                let may_go_on = match last {
                    false => kept < all.len() || to >= 40,
                    true => kept < all.len() || from == 0,
                };
                assert!(!part.ends || !may_go_on, "{from} {to} {most} {last}");
            }
        }
        let (low, high) = (key(3), key(9));
        let wanted = Wanted { from: &low, to: &high, most: usize::MAX, last: false };
        assert!(part(&bytes, &wanted).unwrap().ends, "the tenth key lies beyond the range");
        assert_eq!(part(&[7, 0], &wanted), None);
    }

    #[test]
    fn cutting_keeps_order_and_size() {
        for count in [0, 1, 90, 91, 500, 5_000] {
            for growth in [Growth::Scattered, Growth::Sequential(count as usize), Growth::Sequential(70)] {
                let blocks = cut(slots(count), growth);
                assert_eq!(blocks.concat(), slots(count), "{count} {growth:?}");
                assert!(blocks.iter().all(|block| !block.is_empty() && length(block) <= MAX_BYTES + 64));
            }
        }
    }
}
