//! Checkpoints: the index takes over what the log has, and a record outside it says how far.
//!
//! A thread of its own does this while commits go on. The order makes every moment safe to die in:
//! sync the log, write the index, sync the index, replace the record, remove retired segments.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use tracing::{error, warn};

use super::{
    files,
    frame::After,
    index::Tip,
    segment::{self, Segment, Stale},
    shared::{Frozen, Shared, State},
    wire::{Wire, put_varint},
};
use crate::store::{Digest, StoreError};

const MAGIC: [u8; 8] = *b"LSckpt02";
/// Of records that do not say which segments are stale.
const OLD_MAGIC: [u8; 8] = *b"LSckpt01";

/// What the checkpointing thread is asked for.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// There is something to take over.
    pub(super) dirty: bool,
    /// It should not wait any longer.
    pub(super) urgent: bool,
    /// The thread should end.
    pub(super) stop: bool,
}

/// What the record says of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) size: u64,
    pub(super) live: u64,
    pub(super) retired: Option<u64>,
    pub(super) stale: Stale,
}

/// The record outside the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) tip: Tip,
    pub(super) after: After,
    pub(super) segments: BTreeMap<u64, Noted>,
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let After { head, reserved, digest } = self.after;
        for number in [self.tip.frame, self.tip.segment, self.tip.offset, head, reserved, digest.count] {
            put_varint(&mut out, number);
        }
        out.extend_from_slice(&digest.sum.to_le_bytes());
        put_varint(&mut out, self.segments.len() as u64);
        for (number, noted) in &self.segments {
            let retired = noted.retired.map_or(0, |frame| frame.saturating_add(1));
            let stale = match noted.stale {
                Stale::No => 0,
                Stale::Holds => 1,
                Stale::Goes => 2,
            };
            for number in [*number, noted.size, noted.live, retired, stale] {
                put_varint(&mut out, number);
            }
        }
        let own = crc32fast::hash(&out);
        out.extend_from_slice(&own.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, own) = bytes.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*own) != crc32fast::hash(body) {
            return None;
        }
        let mut wire = Wire::new(body);
        let is_old = match wire.array()? {
            MAGIC => false,
            OLD_MAGIC => true,
            _ => return None,
        };
        let (frame, segment, offset) = (wire.varint()?, wire.varint()?, wire.varint()?);
        let (head, reserved) = (wire.varint()?, wire.varint()?);
        let digest = Digest { count: wire.varint()?, sum: wire.u64()? };
        let mut segments = BTreeMap::new();
        for _ in 0..wire.varint()? {
            let number = wire.varint()?;
            let (size, live) = (wire.varint()?, wire.varint()?);
            let retired = wire.varint()?.checked_sub(1);
            let stale = match if is_old { 0 } else { wire.varint()? } {
                0 => Stale::No,
                1 => Stale::Holds,
                2 => Stale::Goes,
                _ => return None,
            };
            segments.insert(number, Noted { size, live, retired, stale });
        }
        let tip = Tip { frame, segment, offset, digest };
        wire.is_empty().then_some(Self { tip, after: After { head, reserved, digest }, segments })
    }

    /// Reads the record; `None` when there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        match fs::read(folder.join("checkpoint")) {
            Ok(bytes) => match Self::decode(&bytes) {
                Some(record) => Ok(Some(record)),
                None => Err(StoreError::Corrupt("the checkpoint record is damaged".to_owned())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::engine(error)),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        files::write_atomically(&folder.join("checkpoint"), &self.encode()).map_err(StoreError::engine)
    }
}

/// How much room a checkpoint wants: sled breaks for good when a write of its fails, so it is asked
/// to write only when there is clearly enough (it takes up to four times what it is given, and
/// grows by half a mebibyte at a time).
const ROOM_BYTES: u64 = 4 << 20;
const ROOM_PER_CHANGE: u64 = 400;

impl Shared {
    /// Does what is wished for until told to stop.
    pub(super) fn run_checkpoints(&self, after: &dyn Fn()) {
        loop {
            {
                let mut wish = self.wish.lock();
                while !wish.dirty && !wish.stop {
                    self.wished.wait(&mut wish);
                }
                if !wish.urgent && !wish.stop {
                    self.wished.wait_for(&mut wish, self.settings.checkpoint_every);
                }
                if wish.stop {
                    return;
                }
                wish.dirty = false;
                wish.urgent = false;
            }
            match self.checkpoint() {
                Ok(()) => after(),
                Err(error) => {
                    // Nothing is lost: the log has it all, and the next round tries again.
                    error!(%error, "a checkpoint failed: {error}");
                    let mut wish = self.wish.lock();
                    if !wish.stop {
                        self.wished.wait_for(&mut wish, self.settings.checkpoint_every);
                        wish.dirty = true;
                    }
                }
            }
        }
    }

    /// Brings the index up to the log and removes segments that are not needed any more.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.checkpointing.lock();
        let (frozen, current) = self.freeze();
        // Segments before the current one were synced when they were left.
        if let Some(segment) = current.filter(|segment| !segment.synced) {
            segment.file.sync_data().map_err(StoreError::engine)?;
        }
        let room = ROOM_BYTES + ROOM_PER_CHANGE * frozen.changes.len() as u64;
        if files::free_bytes(&self.folder).map_err(StoreError::engine)? < room {
            return Err(StoreError::engine(format!("the disk has less than {room} bytes left")));
        }
        self.index.apply(&frozen.changes)?;
        self.index.checkpoint(frozen.tip)?;
        let record = self.record(&frozen);
        record.write(&self.folder)?;
        let gone = {
            let mut state = self.state.write();
            state.frozen = None;
            state.checkpoint_frame = frozen.tip.frame;
            state.drop_retired(record.tip.frame)
        };
        for segment in gone {
            let path = segment::path(&self.folder, segment.number);
            if let Err(error) = fs::remove_file(&path) {
                warn!(%error, "a segment that is not needed stays: {}: {error}", path.display());
            }
        }
        Ok(())
    }

    fn freeze(&self) -> (Arc<Frozen>, Option<Segment>) {
        let mut state = self.state.write();
        let frozen = match &state.frozen {
            // The last checkpoint failed half-way; doing it again is harmless.
            Some(frozen) => Arc::clone(frozen),
            None => {
                let changes = std::mem::take(&mut state.active);
                state.dirty_bytes = 0;
                let frozen = Arc::new(Frozen { changes, tip: state.tip, after: state.after });
                state.frozen = Some(Arc::clone(&frozen));
                frozen
            }
        };
        let current = state.segments.get(&frozen.tip.segment).cloned();
        (frozen, current)
    }

    fn record(&self, frozen: &Frozen) -> Record {
        let state = self.state.read();
        let noted = state.segments.values().filter(|segment| segment.number <= frozen.tip.segment);
        let noted = noted.map(|segment| {
            // Of the segment that is being written, the tip says how much there must be.
            let size = if segment.number == frozen.tip.segment { frozen.tip.offset } else { segment.size };
            let Segment { live, retired, stale, .. } = *segment;
            (segment.number, Noted { size, live, retired, stale })
        });
        Record { tip: frozen.tip, after: frozen.after, segments: noted.collect() }
    }
}

impl State {
    fn drop_retired(&mut self, upto: u64) -> Vec<Segment> {
        if self.pins > 0 {
            return Vec::new();
        }
        let retired =
            self.segments.values().filter(|segment| segment.retired.is_some_and(|frame| frame <= upto));
        let gone: Vec<u64> = retired.map(|segment| segment.number).collect();
        gone.iter().filter_map(|number| self.segments.remove(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips_and_every_flip_is_noticed() {
        let digest = Digest { count: 4, sum: 99 };
        let record = Record {
            tip: Tip { frame: 7, segment: 2, offset: 400, digest },
            after: After { head: 12, reserved: 65_548, digest },
            segments: BTreeMap::from([
                (1, Noted { size: 300, live: 20, retired: Some(6), stale: Stale::Goes }),
                (2, Noted { size: 400, live: 370, retired: None, stale: Stale::Holds }),
            ]),
        };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(Record::decode(&flipped), None, "byte {at}");
            assert_eq!(Record::decode(&bytes[..at]), None, "{at} bytes");
        }
    }
}
