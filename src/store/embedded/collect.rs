//! Giving space back: what still counts in a mostly dead segment is copied to the end of the log. So is what counts in
//! one that has removed words in it, now and then ([`Store::scrub`](crate::store::Store::scrub)), however much that is.
//!
//! The copies are ordinary frames. Once a checkpoint has passed them, the old segment is removed.
//! Nothing here is needed for reading right; dying at any moment leaves at most two copies of a row.
//!
//! A delete has to be copied too, as long as an older segment may hold a version of the row:
//! otherwise rebuilding the index from the log would bring the row back. Every record says since
//! which segment there may be versions (its *origin*).

use std::collections::{BTreeMap, btree_map::Entry as Slot};

use super::{
    engine::Engine,
    frame::{Change, Stored},
    segment::{Read, Segment, Stale},
    shared::State,
};
use crate::store::{Key, StoreError};

/// A segment is collected when less than so many percent of it count.
const LIVE_PERCENT: u64 = 60;
/// A step copies about so many bytes.
const STEP_BYTES: u64 = 256 * 1024;
/// A step looks through at most so many bytes.
const STEP_READ_BYTES: u64 = 1024 * 1024;

/// A segment that is being collected, and how far.
pub(super) struct Collector {
    victim: Segment,
    offset: u64,
    frame: u64,
}

/// What is copied of a row.
enum Copy {
    Row { origin: u64 },
    Delete { origin: u64 },
}

impl Collector {
    /// The segment that is least worth its space, if there is one.
    pub(super) fn choose(state: &State, current: u64) -> Option<Self> {
        let mut segments = state.segments.values().peekable();
        let mut best: Option<&Segment> = None;
        while let Some(segment) = segments.next() {
            let Some(next) = segments.peek() else { break };
            let settled = next.first_frame <= state.checkpoint_frame + 1;
            let worth = segment.stale == Stale::Goes || segment.live * 100 < segment.size * LIVE_PERCENT;
            if segment.number >= current || !settled || !worth || segment.retired.is_some() {
                continue;
            }
            // live / size, without dividing.
            let less = |other: &Segment| {
                u128::from(segment.live) * u128::from(other.size)
                    < u128::from(other.live) * u128::from(segment.size)
            };
            if best.is_none_or(less) {
                best = Some(segment);
            }
        }
        let victim = best?.clone();
        let frame = victim.first_frame;
        Some(Self { victim, offset: super::segment::PREAMBLE_BYTES, frame })
    }

    /// Copies a little; gives whether the segment is done.
    pub(super) fn step(&mut self, engine: &mut Engine) -> Result<bool, StoreError> {
        let mut copies = BTreeMap::new();
        let mut bytes = 0;
        let begin = self.offset;
        let mut done = false;
        while bytes < STEP_BYTES && self.offset - begin < STEP_READ_BYTES {
            let (parsed, end) = match self.victim.read(self.offset, self.frame)? {
                Read::Frame { parsed, end } => (parsed, end),
                Read::End => {
                    done = true;
                    break;
                }
                Read::Torn => return Err(self.victim.damage(self.offset, "a frame is cut off")),
            };
            for (key, change) in parsed.changes {
                bytes += self.judge(engine, key, change, &mut copies)?;
            }
            self.offset = end;
            self.frame += 1;
        }
        self.copy(engine, copies)?;
        if done {
            let mut state = engine.shared.state.write();
            let frame = state.tip.frame;
            if let Some(segment) = state.segments.get_mut(&self.victim.number) {
                segment.retired = Some(frame);
            }
        }
        Ok(done)
    }

    fn judge(
        &self,
        engine: &Engine,
        key: Key,
        change: Change,
        copies: &mut BTreeMap<Key, Copy>,
    ) -> Result<u64, StoreError> {
        let now = engine.shared.entry(&key)?;
        let length = now.as_ref().map_or(0, |now| now.length);
        let copy = match (change, now) {
            (Change::Put(record), Some(now)) if now.is_at(record.segment, record.offset) => {
                Copy::Row { origin: now.origin }
            }
            (Change::Put(_), _) => return Ok(0),
            (Change::Delete { origin }, _) if !engine.shared.has_segment_in(origin, self.victim.number) => {
                return Ok(0);
            }
            (Change::Delete { origin }, None) => Copy::Delete { origin },
            // A newer version stands for the delete, if it knows how far back to reach.
            (Change::Delete { origin }, Some(now)) if now.origin > origin => Copy::Row { origin },
            (Change::Delete { .. }, Some(_)) => return Ok(0),
        };
        let weight = key.0.len() as u64 + length + 64;
        match copies.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(copy);
            }
            Slot::Occupied(mut slot) => {
                let (Copy::Row { origin: old } | Copy::Delete { origin: old }) = slot.get();
                let merged = match copy {
                    Copy::Row { origin } => Copy::Row { origin: origin.min(*old) },
                    Copy::Delete { origin } => Copy::Delete { origin: origin.min(*old) },
                };
                slot.insert(merged);
            }
        }
        Ok(weight)
    }

    fn copy(&self, engine: &mut Engine, copies: BTreeMap<Key, Copy>) -> Result<(), StoreError> {
        if copies.is_empty() {
            return Ok(());
        }
        let mut builder = engine.builder()?;
        let oldest = engine.shared.oldest_segment();
        let mut olds = Vec::with_capacity(copies.len());
        for (key, copy) in copies {
            let now = engine.shared.entry(&key)?;
            match (&now, copy) {
                (Some(now), Copy::Row { origin } | Copy::Delete { origin }) => {
                    let Some(bytes) = engine.shared.stored(now)? else {
                        return Err(self.victim.damage(self.offset, "a row that counts is not to be found"));
                    };
                    let origin = origin.max(oldest);
                    builder.put(key, &Stored { codec: now.codec, checksum: now.checksum, bytes, origin });
                }
                (None, Copy::Row { origin } | Copy::Delete { origin }) => {
                    builder.delete(key, origin.max(oldest))
                }
            }
            olds.push(now);
        }
        let after = engine.shared.state.read().after;
        engine.append(builder, after, olds)
    }
}
