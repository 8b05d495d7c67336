//! Many index entries in one value of sled: neighbours, sorted, each key without what it shares with the
//! key before.
//!
//! sled spends three to five times the size of small rows on each of them; packed like this they take a
//! third of the space and of the memory.

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
    let lane = |key: &Key| key.0.len().checked_sub(POSITION_BYTES).map(|end| key.0[..end].to_vec());
    before.0.len() == key.0.len() && before < key && lane(before).is_some() && lane(before) == lane(key)
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
