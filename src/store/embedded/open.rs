//! Opening a folder: refuse what is not ours, compare the log with the checkpoint record, mend or
//! rebuild the index, replay what it lacks.

use std::{collections::BTreeMap, fs, path::Path};

use parking_lot::{Condvar, Mutex, RwLock};
use tracing::{info, warn};

use super::{
    Durability, Settings,
    checkpoint::{Record, Wish},
    files,
    frame::{After, Change, Parsed, weight},
    hot::HotRows,
    identity::{self, Stage},
    index::{Index, Tip},
    segment::{self, PREAMBLE_BYTES, Read, Segment},
    shared::{Changes, Shared, State},
};
use crate::store::{Digest, Key, Scan, StoreError};

/// Changes that a replay gathers before it gives them to the index.
const REPLAY_ROWS: usize = 50_000;

/// Opens the store of `settings`, whose lock is held, and gives the segment to write to.
pub(super) fn open(settings: Settings, stage: Option<Stage>) -> Result<(Shared, Segment), StoreError> {
    let folder = settings.folder.clone();
    if stage != Some(Stage::Ready) {
        create(&folder, &settings, stage)?;
    }
    let Some(record) = Record::read(&folder)? else {
        return Err(StoreError::Corrupt("the checkpoint record is missing".to_owned()));
    };
    let mut segments = open_segments(&folder, &record)?;
    let (index, tip) = open_index(&folder, &settings, &record)?;
    if tip.is_none() {
        // They are counted anew from the first record.
        segments.values_mut().for_each(|segment| segment.live = 0);
    }
    let state = State {
        active: Changes::new(),
        frozen: None,
        tip: tip.unwrap_or_default(),
        after: record.after,
        segments,
        checkpoint_frame: record.tip.frame,
        dirty_bytes: 0,
        pins: 0,
    };
    let shared = Shared {
        folder,
        settings,
        index,
        hot: HotRows::new(),
        state: RwLock::new(state),
        wish: Mutex::new(Wish::default()),
        wished: Condvar::new(),
        checkpointing: Mutex::new(()),
    };
    shared.replay(&record, tip)?;
    if tip.is_none() && record.tip.frame > 0 {
        shared.verify_rebuilt()?;
    }
    shared.checkpoint()?;
    let current = shared.current_segment()?;
    Ok((shared, current))
}

fn create(folder: &Path, settings: &Settings, stage: Option<Stage>) -> Result<(), StoreError> {
    if stage.is_none() {
        identity::write(folder, &settings.server_name, Stage::New)?;
    }
    files::make_folder(&folder.join("log")).map_err(StoreError::engine)?;
    // A process may have died here before; only what is certainly empty is made again.
    for number in segment::list(folder)? {
        let empty =
            fs::metadata(segment::path(folder, number)).map_err(StoreError::engine)?.len() <= PREAMBLE_BYTES;
        if number != 1 || !empty {
            return Err(StoreError::Corrupt("the store says it is new, but its log is not empty".to_owned()));
        }
    }
    Segment::create(folder, 1, 1, settings.durability == Durability::EveryCommit)
        .map_err(StoreError::engine)?;
    Record {
        tip: Tip { frame: 0, segment: 1, offset: PREAMBLE_BYTES, digest: Digest::default() },
        after: After::default(),
        segments: BTreeMap::new(),
    }
    .write(folder)?;
    identity::write(folder, &settings.server_name, Stage::Ready)
}

/// Opens every segment and compares with what the record says of it.
fn open_segments(folder: &Path, record: &Record) -> Result<BTreeMap<u64, Segment>, StoreError> {
    let mut segments = BTreeMap::new();
    for number in segment::list(folder)? {
        let noted = record.segments.get(&number);
        let gone = match noted {
            Some(noted) => noted.retired.is_some_and(|frame| frame <= record.tip.frame),
            // The record names all that it knew; this one was removed, but the disk forgot it.
            None => number < record.tip.segment,
        };
        if gone {
            fs::remove_file(segment::path(folder, number)).map_err(StoreError::engine)?;
            continue;
        }
        let mut segment = Segment::open(folder, number)?;
        if let Some(noted) = noted {
            let short = segment.size < noted.size;
            let long = segment.size > noted.size && number < record.tip.segment;
            if short || long {
                let what = format!("it has {} bytes and should have {}", segment.size, noted.size);
                return Err(segment.damage(noted.size, &what));
            }
            segment.live = noted.live;
            segment.retired = noted.retired;
            segment.stale = noted.stale;
        }
        segments.insert(number, segment);
    }
    let expected = record.segments.iter().filter(|(_, noted)| noted.retired.is_none());
    for number in expected.map(|(number, _)| number).chain([&record.tip.segment]) {
        if !segments.contains_key(number) {
            return Err(StoreError::Corrupt(format!("log segment {number} is missing")));
        }
    }
    Ok(segments)
}

/// Opens the index, or moves it away and makes an empty one when it cannot be trusted; in that case
/// there is no tip.
fn open_index(
    folder: &Path,
    settings: &Settings,
    record: &Record,
) -> Result<(Index, Option<Tip>), StoreError> {
    let path = folder.join("index");
    let opened = match settings.rebuild_index {
        false => Index::open(&path, settings.cache_bytes).and_then(|index| Ok((index.tip()?, index))),
        true => Err(StoreError::Unusable("it is to be rebuilt".to_owned())),
    };
    let why = match opened {
        Ok((tip, index)) => {
            let tip = tip.unwrap_or(Tip { segment: record.tip.segment, ..Tip::default() });
            let same = tip.frame != record.tip.frame || tip.digest == record.tip.digest;
            if tip.frame == 0 && record.tip.frame == 0 {
                return Ok((index, Some(record.tip)));
            }
            if tip.frame >= record.tip.frame && same {
                return Ok((index, Some(tip)));
            }
            format!("it holds frame {}, the checkpoint says {}", tip.frame, record.tip.frame)
        }
        Err(error) => error.to_string(),
    };
    if path.exists() {
        warn!("the index of `{}` is rebuilt from the log: {why}", folder.display());
        let aside = folder.join("index.damaged");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(StoreError::engine)?;
        }
        fs::rename(&path, &aside).and_then(|()| files::sync_folder(folder)).map_err(StoreError::engine)?;
    }
    Ok((Index::open(&path, settings.cache_bytes)?, None))
}

impl Shared {
    /// Takes from the log what the index lacks: everything after `tip`, or everything there is. Frames that the index
    /// has and the record does not know of (the process died between the two) still say which positions are taken.
    fn replay(&self, record: &Record, tip: Option<Tip>) -> Result<(), StoreError> {
        let segments: Vec<Segment> = self.state.read().segments.values().cloned().collect();
        let held = tip.map_or(0, |tip| tip.frame);
        let start = match tip {
            Some(tip) if tip.frame > record.tip.frame => Some(record.tip),
            other => other,
        };
        let first = start.map_or(0, |start| start.segment);
        let mut next = None;
        let last = segments.last().map_or(0, |segment| segment.number);
        for mut segment in segments.into_iter().filter(|segment| segment.number >= first) {
            let (mut offset, mut frame) = match start.filter(|start| start.segment == segment.number) {
                Some(start) => (start.offset, start.frame + 1),
                None => (PREAMBLE_BYTES, segment.first_frame),
            };
            // Before the record's segment others may have been removed; after it none can be.
            let removed = segment.number <= record.tip.segment && tip.is_none();
            if let Some(expected) = next
                && frame != expected
                && !removed
            {
                return Err(segment.damage(offset, &format!("frame {expected} is missing")));
            }
            loop {
                match segment.read(offset, frame)? {
                    Read::Frame { parsed, end } => {
                        let tip =
                            Tip { frame, segment: segment.number, offset: end, digest: parsed.after.digest };
                        match frame <= held {
                            true => self.pass_over(parsed, segment.number)?,
                            false => self.take_over(parsed, tip)?,
                        }
                        (offset, frame) = (end, frame + 1);
                    }
                    Read::End => break,
                    Read::Torn => {
                        self.cut(&mut segment, offset, frame, last)?;
                        break;
                    }
                }
            }
            next = Some(frame);
        }
        let mut state = self.state.write();
        let ends = state.tip.frame.min(next.map_or(0, |next| next - 1));
        let known = held.max(record.tip.frame);
        if ends < known {
            let what = format!("the log ends at frame {ends}, the checkpoint says {known}");
            return Err(StoreError::Corrupt(what));
        }
        // Whatever was set aside may have been handed out.
        state.after.head = state.after.head.max(state.after.reserved);
        state.after.reserved = state.after.head;
        Ok(())
    }

    /// Takes from a frame that the index holds what only the record would say.
    fn pass_over(&self, parsed: Parsed, segment: u64) -> Result<(), StoreError> {
        for (key, change) in &parsed.changes {
            let now = self.index.get(key)?;
            let mut state = self.state.write();
            state.suspect(key, change, segment);
            if let (Change::Put(put), Some(now)) = (change, now)
                && now.is_at(put.segment, put.offset)
                && let Some(segment) = state.segments.get_mut(&segment)
            {
                segment.live += weight(key, &now);
            }
        }
        self.state.write().after = parsed.after;
        Ok(())
    }

    fn take_over(&self, parsed: Parsed, tip: Tip) -> Result<(), StoreError> {
        let Parsed { after, changes } = parsed;
        let olds: Result<Vec<_>, StoreError> = changes.iter().map(|(key, _)| self.entry(key)).collect();
        let mut state = self.state.write();
        for ((key, change), old) in changes.into_iter().zip(olds?) {
            // The index may have got a part of what the frame did, without the tip that says so.
            let is_taken = match (&change, &old) {
                (Change::Put(put), Some(old)) => old.is_at(put.segment, put.offset),
                (Change::Put(_), None) => false,
                (Change::Delete { .. }, old) => old.is_none(),
            };
            if is_taken {
                state.suspect(&key, &change, tip.segment);
            }
            state.apply(key, change, old.as_ref());
        }
        state.tip = tip;
        state.after = after;
        if state.active.len() >= REPLAY_ROWS {
            let changes = std::mem::take(&mut state.active);
            self.index.apply(&changes)?;
        }
        Ok(())
    }

    /// Cuts off a frame that was being written when the machine died, and nothing else.
    fn cut(&self, segment: &mut Segment, offset: u64, frame: u64, last: u64) -> Result<(), StoreError> {
        if segment.number != last {
            return Err(segment.damage(offset, "a frame is cut off, but the log goes on"));
        }
        if segment.synced && segment.has_later_frame(offset, frame)? {
            return Err(segment.damage(offset, "a frame is damaged, but whole frames follow it"));
        }
        let bytes = segment.size - offset;
        info!("cutting {bytes} bytes off the log: a frame that was being written when the server died");
        segment.cut(offset)?;
        if let Some(shared) = self.state.write().segments.get_mut(&segment.number) {
            shared.size = offset;
        }
        Ok(())
    }

    /// Counts all rows of an index that was rebuilt and compares with what the log says there are.
    fn verify_rebuilt(&self) -> Result<(), StoreError> {
        let expected = self.state.read().after.digest;
        let mut found = Digest::default();
        let mut from = Key(Vec::new());
        loop {
            let scan = Scan { from, to: Key(vec![u8::MAX; 8]), reverse: false, limit: REPLAY_ROWS };
            let entries = self.entries(&scan)?;
            entries.iter().for_each(|(key, entry)| found.add(&key.0, entry.checksum));
            match entries.last() {
                Some((key, _)) if entries.len() == REPLAY_ROWS => from = key.successor(),
                _ => break,
            }
        }
        match found == expected {
            true => Ok(()),
            false => Err(StoreError::Corrupt(format!(
                "the log gives {} rows, not the {} there should be; restore the last export and the segments since",
                found.count, expected.count
            ))),
        }
    }

    /// The last segment, or a new one if that was written with another promise.
    fn current_segment(&self) -> Result<Segment, StoreError> {
        let mut state = self.state.write();
        let synced = self.settings.durability == Durability::EveryCommit;
        let last = state.segments.values().next_back().cloned();
        match last {
            Some(last) if last.synced == synced => Ok(last),
            last => {
                let number = last.map_or(1, |last| last.number + 1);
                let frame = state.tip.frame + 1;
                let fresh =
                    Segment::create(&self.folder, number, frame, synced).map_err(StoreError::engine)?;
                state.segments.insert(number, fresh.clone());
                Ok(fresh)
            }
        }
    }
}
