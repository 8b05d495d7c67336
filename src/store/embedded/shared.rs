//! What the threads of the engine share: the newest changes in memory, the segments, the index.
//!
//! A row is looked for in three places, newest first: changes since the last checkpoint began,
//! changes that a running checkpoint is taking to the index, the index. Changes move only in that
//! direction, so a reader that looks in that order misses none.

use std::{collections::BTreeMap, iter::Peekable, path::PathBuf, sync::Arc};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{
    Settings,
    checkpoint::Wish,
    codec::{self, Entry},
    frame::{After, Change, weight},
    hot::HotRows,
    index::{Index, Tip},
    segment::{Segment, Stale},
};
use crate::{
    store::{Key, Row, Scan, StoreError, table::TableId},
    types::Position,
};

/// Changes not yet in the index.
pub(super) type Changes = BTreeMap<Key, Change>;

/// Changes on their way into the index, and how far it will have got with them.
pub(super) struct Frozen {
    pub(super) changes: Changes,
    pub(super) tip: Tip,
    pub(super) after: After,
}

/// What changes with every commit.
pub(super) struct State {
    pub(super) active: Changes,
    pub(super) frozen: Option<Arc<Frozen>>,
    pub(super) tip: Tip,
    pub(super) after: After,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// The last frame of which the checkpoint record speaks.
    pub(super) checkpoint_frame: u64,
    /// Log bytes since the last checkpoint began.
    pub(super) dirty_bytes: u64,
    /// How many exports keep segments from being removed.
    pub(super) pins: usize,
}

/// All of it.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) settings: Settings,
    pub(super) index: Index,
    pub(super) hot: HotRows,
    pub(super) state: RwLock<State>,
    pub(super) wish: Mutex<Wish>,
    pub(super) wished: Condvar,
    /// Taken before `state`.
    pub(super) checkpointing: Mutex<()>,
}

/// How often a read starts over when the segment it was to read has just been replaced.
const RETRIES: usize = 8;

impl State {
    pub(super) fn change(&self, key: &Key) -> Option<&Change> {
        self.active.get(key).or_else(|| self.frozen.as_ref()?.changes.get(key))
    }

    /// Makes the changes of a frame visible; `old` is what the rows were before.
    pub(super) fn apply(&mut self, key: Key, change: Change, old: Option<&Entry>) {
        if let Some(old) = old
            && let Some(segment) = self.segments.get_mut(&old.segment)
        {
            segment.live = segment.live.saturating_sub(weight(&key, old));
            let is_other = match &change {
                // A row that is collected is only copied.
                Change::Put(entry) => entry.checksum != old.checksum,
                Change::Delete { .. } => true,
            };
            if is_other && segment.stale == Stale::No && has_words(&key) {
                segment.stale = Stale::Holds;
            }
        }
        if let Change::Put(entry) = &change
            && let Some(segment) = self.segments.get_mut(&entry.segment)
        {
            segment.live += weight(&key, entry);
        }
        self.active.insert(key, change);
    }

    /// Notes of a change in `segment` that is in the index already that words may be gone: what stood before, and
    /// where, cannot be seen any more.
    pub(super) fn suspect(&mut self, key: &Key, change: &Change, segment: u64) {
        if !has_words(key) {
            return;
        }
        let (Change::Put(Entry { origin, .. }) | Change::Delete { origin }) = change;
        for (_, older) in self.segments.range_mut(*origin.min(&segment)..=segment) {
            if older.stale == Stale::No {
                older.stale = Stale::Holds;
            }
        }
    }

    /// The changes in the range of `scan`, in its direction, with no more puts than its limit.
    fn overlay(&self, scan: &Scan) -> Vec<(Key, Change)> {
        let empty = Changes::new();
        let frozen = self.frozen.as_ref().map_or(&empty, |frozen| &frozen.changes);
        let newer = self.active.range(&scan.from..&scan.to);
        let older = frozen.range(&scan.from..&scan.to);
        match scan.reverse {
            false => gather(newer.peekable(), older.peekable(), scan),
            true => gather(newer.rev().peekable(), older.rev().peekable(), scan),
        }
    }
}

/// Whether a row says what somebody said, and is rarely written but to take that away.
fn has_words(key: &Key) -> bool {
    const EVENT: u8 = TableId::Event as u8;
    const PROFILE: u8 = TableId::Profile as u8;
    const REPORT: u8 = TableId::Report as u8;
    const EVIDENCE: u8 = TableId::ReportEvidence as u8;
    matches!(key.0.first(), Some(&(EVENT | PROFILE | REPORT | EVIDENCE)))
}

/// Whether `a` comes before `b` in the direction of `scan`.
fn before(a: &Key, b: &Key, scan: &Scan) -> bool {
    if scan.reverse { a > b } else { a < b }
}

fn gather<'a>(
    mut newer: Peekable<impl Iterator<Item = (&'a Key, &'a Change)>>,
    mut older: Peekable<impl Iterator<Item = (&'a Key, &'a Change)>>,
    scan: &Scan,
) -> Vec<(Key, Change)> {
    let mut gathered = Vec::new();
    let mut puts = 0;
    while puts < scan.limit {
        let next = match (newer.peek(), older.peek()) {
            (Some((a, _)), Some((b, _))) if a == b => {
                older.next();
                newer.next()
            }
            (Some((a, _)), Some((b, _))) if before(b, a, scan) => older.next(),
            (Some(_), _) => newer.next(),
            (None, _) => older.next(),
        };
        let Some((key, change)) = next else { break };
        puts += usize::from(matches!(change, Change::Put(_)));
        gathered.push((key.clone(), change.clone()));
    }
    gathered
}

impl Shared {
    /// Where the newest version of a row is.
    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.state.read().change(key) {
            Some(Change::Put(entry)) => return Ok(Some(entry.clone())),
            Some(Change::Delete { .. }) => return Ok(None),
            None => {}
        }
        self.index.get(key)
    }

    /// The value of a row.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.hot.get(key) {
            return Ok(Some(value));
        }
        let frame = self.state.read().tip.frame;
        let found = self.read(key)?;
        if let Some(value) = &found {
            // While this is held no change becomes visible.
            let state = self.state.read();
            if state.tip.frame == frame {
                self.hot.keep(key.clone(), value.clone());
            }
        }
        Ok(found)
    }

    /// The value of a row, from the log.
    pub(super) fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        for _ in 0..RETRIES {
            let Some(entry) = self.entry(key)? else { return Ok(None) };
            if let Some(value) = self.value(key, &entry)? {
                return Ok(Some(value));
            }
        }
        Err(self.lost(key))
    }

    /// The value at `entry`; `None` when its segment is gone and the row has to be looked up again.
    pub(super) fn value(&self, key: &Key, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(stored) = self.stored(entry)? else { return Ok(None) };
        match codec::decode(&key.0, entry, &stored) {
            Some(value) => Ok(Some(value)),
            None => Err(StoreError::Corrupt(format!(
                "row {:02x?} in segment {} at byte {}: its checksum is wrong",
                key.0, entry.segment, entry.offset
            ))),
        }
    }

    /// The stored bytes at `entry`; `None` when its segment is gone.
    pub(super) fn stored(&self, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bytes) = &entry.inline {
            return Ok(Some(bytes.to_vec()));
        }
        let segment = self.state.read().segments.get(&entry.segment).cloned();
        segment.map(|segment| segment.stored(entry)).transpose()
    }

    /// The entries of a range in the direction of `scan`, up to its limit.
    pub(super) fn entries(&self, scan: &Scan) -> Result<Vec<(Key, Entry)>, StoreError> {
        if scan.from >= scan.to || scan.limit == 0 {
            return Ok(Vec::new());
        }
        let mut overlay = self.state.read().overlay(scan).into_iter().peekable();
        let mut below = self.index.range(scan).peekable();
        let mut found = Vec::new();
        while found.len() < scan.limit {
            let of_index = match below.peek() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(_)) => return below.next().transpose().map(|_| found),
                None => None,
            };
            let covered = match (overlay.peek(), of_index) {
                (None, None) => break,
                (Some((newer, _)), Some(key)) if newer == key => true,
                (Some((newer, _)), Some(key)) => {
                    if before(key, newer, scan) {
                        found.extend(below.next().transpose()?);
                        continue;
                    }
                    false
                }
                (Some(_), None) => false,
                (None, Some(_)) => {
                    found.extend(below.next().transpose()?);
                    continue;
                }
            };
            if covered {
                below.next();
            }
            if let Some((key, Change::Put(entry))) = overlay.next() {
                found.push((key, entry));
            }
        }
        Ok(found)
    }

    /// The rows of a range in the direction of `scan`, up to its limit.
    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        for _ in 0..RETRIES {
            let mut rows = Vec::new();
            let entries = self.entries(scan)?;
            let wanted = entries.len();
            for (key, entry) in entries {
                let value = self.value(&key, &entry)?;
                rows.extend(value.map(|value| (key, value)));
            }
            // Fewer rows than the limit mean the end of the range, so none may be left out.
            if rows.len() == wanted {
                return Ok(rows);
            }
        }
        Err(self.lost(&scan.from))
    }

    /// Takes positions that are set aside already; `None` when there are not enough.
    pub(super) fn reserve(&self, count: u64) -> Option<Position> {
        let mut state = self.state.write();
        let head = state.after.head.checked_add(count)?;
        if head > state.after.reserved {
            return None;
        }
        let first = Position(state.after.head + 1);
        state.after.head = head;
        Some(first)
    }

    /// The number of the first segment that is left.
    pub(super) fn oldest_segment(&self) -> u64 {
        self.state.read().segments.keys().next().copied().unwrap_or_default()
    }

    /// Whether a segment from `from` on, before `to`, is left.
    pub(super) fn has_segment_in(&self, from: u64, to: u64) -> bool {
        from < to && self.state.read().segments.range(from..to).next().is_some()
    }

    /// Asks for a checkpoint, soon or at once.
    pub(super) fn wish_checkpoint(&self, urgent: bool) {
        let mut wish = self.wish.lock();
        let changes = !wish.dirty || (urgent && !wish.urgent);
        wish.dirty = true;
        wish.urgent |= urgent;
        drop(wish);
        if changes {
            self.wished.notify_all();
        }
    }

    /// Tells the checkpointing thread to end.
    pub(super) fn stop_checkpoints(&self) {
        self.wish.lock().stop = true;
        self.wished.notify_all();
    }

    fn lost(&self, key: &Key) -> StoreError {
        StoreError::Corrupt(format!("the log segment of row {:02x?} is gone", key.0))
    }
}
