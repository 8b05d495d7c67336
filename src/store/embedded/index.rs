//! The index: where the newest version of each row is in the log. The only module that knows sled.
//!
//! sled is not trusted. It is written only from the log, after the log is durable; a checkpoint
//! outside it says how far it must have got; and it can be rebuilt from the log at any time.

use std::{
    collections::VecDeque,
    fs::{self, File},
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use parking_lot::RwLock;
use sled::IVec;

use super::{
    block::{self, Growth, MIN_BYTES, Part, Slot, Wanted},
    codec::Entry,
    frame::Change,
    shared::Changes,
    wire::Wire,
};
use crate::store::{Digest, Key, Scan, StoreError};

/// How far the index has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// The last frame that it holds whole.
    pub(super) frame: u64,
    /// The segment of that frame.
    pub(super) segment: u64,
    /// Where that frame ends.
    pub(super) offset: u64,
    /// The fingerprint of all rows after that frame.
    pub(super) digest: Digest,
}

impl Tip {
    fn encode(self) -> [u8; 40] {
        let mut out = [0; 40];
        let numbers = [self.frame, self.segment, self.offset, self.digest.count, self.digest.sum];
        for (part, number) in out.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let (frame, segment, offset) = (wire.u64()?, wire.u64()?, wire.u64()?);
        let digest = Digest { count: wire.u64()?, sum: wire.u64()? };
        wire.is_empty().then_some(Self { frame, segment, offset, digest })
    }
}

const TIP: &[u8] = b"tip";
const SEGMENT_BYTES: usize = 512 * 1024;
/// So many entries are taken from a block at a time, even if fewer rows are wanted: some may have been
/// removed since.
const PAGE_MIN: usize = 4;

/// The open index.
pub(super) struct Index {
    /// Blocks by their first key.
    rows: sled::Tree,
    /// Held for reading while blocks are looked at and for writing while some are replaced by others.
    cutting: RwLock<()>,
    meta: sled::Tree,
    db: sled::Db,
    folder: PathBuf,
}

impl Index {
    /// Opens the index in `folder`, or makes an empty one. Any failure means: move it away, rebuild.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        // A snapshot that was being written when the process died would keep sled from opening.
        if let Ok(files) = fs::read_dir(folder) {
            for file in files.flatten() {
                if file.file_name().to_string_lossy().ends_with(".generating") {
                    fs::remove_file(file.path()).map_err(StoreError::engine)?;
                }
            }
        }
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(1_000));
        // sled panics on some damaged files.
        let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<Self> {
            let db = config.open()?;
            let meta = db.open_tree("meta")?;
            let rows = db.open_tree("rows")?;
            Ok(Self { rows, cutting: RwLock::new(()), meta, db, folder: folder.to_owned() })
        }));
        match opened {
            Ok(opened) => opened.map_err(failure),
            Err(_) => Err(StoreError::Corrupt("the index cannot be opened".to_owned())),
        }
    }

    /// How far it has got; `None` for an index that is empty or does not know.
    pub(super) fn tip(&self) -> Result<Option<Tip>, StoreError> {
        Ok(self.meta.get(TIP).map_err(failure)?.and_then(|bytes| Tip::decode(&bytes)))
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let _whole = self.cutting.read();
        let Some((_, block)) =
            self.rows.range(..=key.0.as_slice()).next_back().transpose().map_err(failure)?
        else {
            return Ok(None);
        };
        let found = block::find(&block, key).ok_or_else(|| nonsense(key))?;
        found.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// The entries of a range, one by one in the scan's direction; its limit only says how many are
    /// likely to be looked at.
    pub(super) fn range<'a>(
        &'a self,
        scan: &Scan,
    ) -> impl Iterator<Item = Result<(Key, Entry), StoreError>> + use<'a> {
        let (mut from, mut to, reverse) = (scan.from.clone(), scan.to.clone(), scan.reverse);
        let most = scan.limit.max(PAGE_MIN);
        let mut found = VecDeque::new();
        std::iter::from_fn(move || {
            if found.is_empty() && from < to {
                let page = match reverse {
                    false => self.page_up(&from, &to, most),
                    true => self.page_down(&from, &to, most),
                };
                let ends = match page {
                    Ok(page) => {
                        found = page.slots;
                        page.ends
                    }
                    Err(error) => {
                        to = from.clone();
                        return Some(Err(error));
                    }
                };
                match (if reverse { found.front() } else { found.back() }).filter(|_| !ends) {
                    Some((key, _)) if reverse => to = Key::clone(key),
                    Some((key, _)) => from = key.successor(),
                    None => to = from.clone(),
                }
            }
            let (key, bytes) = if reverse { found.pop_back() } else { found.pop_front() }?;
            let entry = decode(&key, &bytes);
            Some(entry.map(|entry| (key, entry)))
        })
    }

    /// The first slots of the range, all from the first block that has any. A block is looked up anew
    /// each time: between two looks it may have been cut.
    fn page_up(&self, from: &Key, to: &Key, most: usize) -> Result<Part, StoreError> {
        let wanted = Wanted { from, to, most, last: false };
        let _whole = self.cutting.read();
        let floor = self.rows.range(..=from.0.as_slice()).next_back().transpose().map_err(failure)?;
        if let Some((first, block)) = floor {
            let part = part(&first, &block, &wanted)?;
            if part.ends || !part.slots.is_empty() {
                return Ok(part);
            }
        }
        let after = (Bound::Excluded(from.0.as_slice()), Bound::Excluded(to.0.as_slice()));
        for block in self.rows.range::<&[u8], _>(after) {
            let (first, block) = block.map_err(failure)?;
            let part = part(&first, &block, &wanted)?;
            if part.ends || !part.slots.is_empty() {
                return Ok(part);
            }
        }
        Ok(Part::default())
    }

    /// The same from the other end.
    fn page_down(&self, from: &Key, to: &Key, most: usize) -> Result<Part, StoreError> {
        let wanted = Wanted { from, to, most, last: true };
        let _whole = self.cutting.read();
        for block in self.rows.range(..to.0.as_slice()).rev() {
            let (first, block) = block.map_err(failure)?;
            let part = part(&first, &block, &wanted)?;
            if part.ends || !part.slots.is_empty() || first.as_ref() <= from.0.as_slice() {
                return Ok(part);
            }
        }
        Ok(Part::default())
    }

    /// Applies changes. When the process dies in between, some are applied and others not, which does
    /// not matter: the log has them all, and applying them again makes no difference.
    pub(super) fn apply(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut changes = changes.iter().peekable();
        while let Some((key, _)) = changes.peek() {
            let mut old = Vec::new();
            let mut block = self.block_for(key)?;
            let mut merged = Merged::default();
            loop {
                old.extend(block.first);
                let inside = |key: &Key| block.end.as_ref().is_none_or(|end| key.0.as_slice() < end.as_ref());
                merged.take(block.slots, std::iter::from_fn(|| changes.next_if(|(key, _)| inside(key))));
                // A block that has become short takes in its neighbour.
                match block.end {
                    Some(end)
                        if merged.changed && block::length(&merged.slots) < MIN_BYTES && old.len() < 2 =>
                    {
                        block = self.block_for(&Key(end.to_vec()))?;
                    }
                    _ => break,
                }
            }
            if merged.changed {
                self.replace(&old, merged)?;
            }
        }
        Ok(())
    }

    /// The block that `key` belongs into.
    fn block_for(&self, key: &Key) -> Result<Block, StoreError> {
        let floor = self.rows.range(..=key.0.as_slice()).next_back();
        let found = match floor {
            Some(floor) => Some(floor),
            None => self.rows.iter().next(),
        };
        let Some((first, block)) = found.transpose().map_err(failure)? else { return Ok(Block::default()) };
        let slots = slots(&first, &block)?;
        let after = (Bound::Excluded(first.as_ref()), Bound::Unbounded);
        let next = self.rows.range::<&[u8], _>(after).next().transpose().map_err(failure)?;
        Ok(Block { first: Some(first), end: next.map(|(key, _)| key), slots })
    }

    /// Puts the blocks of `merged` in the place of the blocks that begin with `old`, all at once.
    fn replace(&self, old: &[IVec], merged: Merged) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        old.iter().for_each(|first| batch.remove(first));
        for block in block::cut(merged.slots, merged.growth) {
            if let Some((first, _)) = block.first() {
                batch.insert(first.0.as_slice(), block::encode(&block));
            }
        }
        let _alone = self.cutting.write();
        self.rows.apply_batch(batch).map_err(failure)
    }

    /// Records how far the index has got and makes everything in it durable.
    pub(super) fn checkpoint(&self, tip: Tip) -> Result<(), StoreError> {
        self.meta.insert(TIP, tip.encode().as_slice()).map_err(failure)?;
        self.db.flush().map_err(failure)?;
        // sled's own flush asks for no more than starting to write (`sync_file_range`).
        File::open(self.folder.join("db")).and_then(|file| file.sync_all()).map_err(StoreError::engine)?;
        super::files::sync_folder(&self.folder).map_err(StoreError::engine)
    }
}

/// A block as it is, and where the next one begins.
#[derive(Default)]
struct Block {
    first: Option<IVec>,
    end: Option<IVec>,
    slots: Vec<Slot>,
}

/// Slots and changes put together.
struct Merged {
    slots: Vec<Slot>,
    changed: bool,
    growth: Growth,
}

impl Default for Merged {
    fn default() -> Self {
        Self { slots: Vec::new(), changed: false, growth: Growth::Sequential(0) }
    }
}

impl Merged {
    fn take<'a>(&mut self, slots: Vec<Slot>, changes: impl Iterator<Item = (&'a Key, &'a Change)>) {
        let mut slots = slots.into_iter().peekable();
        for (key, change) in changes {
            while let Some(slot) = slots.next_if(|(other, _)| other < key) {
                self.slots.push(slot);
            }
            let old = slots.next_if(|(other, _)| other == key);
            match change {
                Change::Put(entry) => {
                    let bytes = entry.encode();
                    self.changed |= old.as_ref().is_none_or(|(_, old)| *old != bytes);
                    if old.is_none() {
                        self.grow(key);
                    }
                    self.slots.push((key.clone(), bytes));
                }
                // Many rows come and go between two checkpoints and never were here.
                Change::Delete { .. } => self.changed |= old.is_some(),
            }
        }
        self.slots.extend(slots);
    }

    /// Notes that a slot for `key` is added at the end of what there is so far.
    fn grow(&mut self, key: &Key) {
        let here = self.slots.len();
        let follows = match self.slots.last() {
            Some((before, _)) => block::follows(before, key),
            None => true,
        };
        self.growth = match self.growth {
            Growth::Sequential(end) if follows && (end == here || end == 0) => Growth::Sequential(here + 1),
            _ => Growth::Scattered,
        };
    }
}

fn slots(first: &[u8], block: &[u8]) -> Result<Vec<Slot>, StoreError> {
    block::decode(block).ok_or_else(|| nonsense(&Key(first.to_vec())))
}

fn part(first: &[u8], block: &[u8], wanted: &Wanted<'_>) -> Result<Part, StoreError> {
    block::part(block, wanted).ok_or_else(|| nonsense(&Key(first.to_vec())))
}

fn nonsense(key: &Key) -> StoreError {
    StoreError::Corrupt(format!(
        "the index block of {:02x?}; rebuilding the index (`lockstep db check --rebuild`) mends that",
        key.0
    ))
}

fn decode(key: &Key, bytes: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(bytes).ok_or_else(|| StoreError::Corrupt(format!("the index entry of {:02x?}", key.0)))
}

fn failure(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(format!(
            "the index: {error}; rebuilding it from the log (`lockstep db check --rebuild`) mends that"
        )),
        error => StoreError::engine(error),
    }
}
