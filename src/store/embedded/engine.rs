//! The thread that owns the log: it judges, appends, syncs, and only then lets others see.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::warn;

use super::{
    Durability,
    codec::{Encoder, Entry},
    collect::Collector,
    files,
    frame::{After, Builder, Built, Stored},
    index::Tip,
    segment::{self, AppendError, Segment, Stale},
    shared::Shared,
};
use crate::{
    limits::{STORE_FREE_BYTES_MIN, STORE_PENDING_ROWS_MAX, STORE_RESERVE_BLOCK},
    store::{Batch, Committed, Key, Scan, StoreError, digest, needed, resolve},
    types::Position,
};

/// What the thread is asked for.
pub(super) enum Job {
    Commit(Vec<Batch>, oneshot::Sender<Result<Committed, StoreError>>),
    Reserve(u64, oneshot::Sender<Result<Position, StoreError>>),
    /// A checkpoint has passed; perhaps a segment is worth collecting.
    Collect,
    /// What was removed is to go from the disk.
    Scrub(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// While there is something to collect, a step is done after so long without other work …
const COLLECT_PAUSE: Duration = Duration::from_millis(10);
/// … or after so many jobs.
const COLLECT_EVERY: u32 = 32;

/// The state of the thread.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    /// The segment that is written; the shared state has its size and live bytes too.
    current: Segment,
    encoder: Encoder,
    collector: Option<Collector>,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, current: Segment) -> Result<Self, StoreError> {
        Ok(Self { shared, current, encoder: Encoder::new()?, collector: None, broken: None })
    }

    /// Does jobs until told to close or nobody is left to ask.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut since_collected = 0;
        loop {
            let job = match self.collector {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) if since_collected < COLLECT_EVERY => jobs.recv_timeout(COLLECT_PAUSE),
                Some(_) => Err(RecvTimeoutError::Timeout),
            };
            since_collected += 1;
            // A receiver that is gone was a request that its client gave up; its commit stands.
            match job {
                Ok(Job::Commit(group, answer)) => drop(answer.send(self.commit(group))),
                Ok(Job::Reserve(count, answer)) => drop(answer.send(self.reserve(count))),
                Ok(Job::Collect) => self.collector = self.collector.take().or_else(|| self.choose()),
                Ok(Job::Scrub(answer)) => drop(answer.send(self.scrub())),
                Ok(Job::Close(answer)) => return drop(answer.send(self.close())),
                Err(RecvTimeoutError::Timeout) => {
                    since_collected = 0;
                    self.collect_step();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn choose(&self) -> Option<Collector> {
        Collector::choose(&self.shared.state.read(), self.current.number)
    }

    fn collect_step(&mut self) {
        let Some(mut collector) = self.collector.take() else { return };
        match collector.step(self) {
            Ok(true) => self.shared.wish_checkpoint(false),
            Ok(false) => self.collector = Some(collector),
            // The segment stays as it is; after the next checkpoint it is tried again.
            Err(error) => warn!(%error, "a log segment could not be collected: {error}"),
        }
    }

    /// Has every segment collected that has removed words in it.
    fn scrub(&mut self) -> Result<(), StoreError> {
        let current = self.current.number;
        let is_stale = |segment: &Segment| segment.stale != Stale::No;
        if self.shared.state.read().segments.get(&current).is_some_and(is_stale) {
            self.roll()?;
        }
        let mut state = self.shared.state.write();
        let stale = state.segments.values_mut().filter(|segment| is_stale(segment));
        stale.for_each(|segment| segment.stale = Stale::Goes);
        drop(state);
        // They are looked for after each checkpoint.
        self.shared.wish_checkpoint(true);
        Ok(())
    }

    fn commit(&mut self, group: Vec<Batch>) -> Result<Committed, StoreError> {
        let pending = {
            let state = self.shared.state.read();
            state.active.len()
        };
        if pending > STORE_PENDING_ROWS_MAX {
            self.shared.wish_checkpoint(true);
            return Err(StoreError::engine("the index cannot keep up, or the disk is full"));
        }
        let needed = needed(&group);
        let (mut rows, mut entries) = (BTreeMap::new(), BTreeMap::new());
        for key in needed.keys {
            if let Some(value) = self.shared.hot.get(&key) {
                rows.insert(key, value);
                continue;
            }
            let entry = self.shared.entry(&key)?;
            if entry.is_some()
                && let Some(value) = self.shared.get(&key)?
            {
                rows.insert(key.clone(), value);
            }
            entries.insert(key, entry);
        }
        let mut range_keys = Vec::with_capacity(needed.ranges.len());
        for (from, to) in needed.ranges {
            let all = Scan { from, to, reverse: false, limit: usize::MAX };
            range_keys.push(self.shared.entries(&all)?.into_iter().map(|(key, _)| key).collect());
        }
        let mut after = self.shared.state.read().after;
        let resolved = resolve(group, Position(after.head), &rows, range_keys);
        after.head += resolved.taken;
        after.reserved = after.reserved.max(after.head);
        if resolved.taken > 0 || !resolved.writes.is_empty() {
            // What is fresh was not there, and need not be looked for.
            entries.extend(resolved.fresh.into_iter().map(|key| (key, None)));
            self.write(resolved.writes, entries, after)?;
        }
        Ok(Committed { outcomes: resolved.outcomes, head: Position(after.head) })
    }

    /// Writes a frame; `entries` are those of the rows that have been looked up already.
    fn write(
        &mut self,
        writes: BTreeMap<Key, Option<Vec<u8>>>,
        mut entries: BTreeMap<Key, Option<Entry>>,
        mut after: After,
    ) -> Result<(), StoreError> {
        let mut builder = self.builder()?;
        let oldest = self.shared.oldest_segment();
        let mut olds = Vec::with_capacity(writes.len());
        let mut hot = Vec::new();
        for (key, value) in writes {
            let old = match entries.remove(&key) {
                Some(entry) => entry,
                None => self.shared.entry(&key)?,
            };
            if let Some(old) = &old {
                after.digest.remove(&key.0, old.checksum);
            }
            let origin = old.as_ref().map_or(self.current.number, |old| old.origin.max(oldest));
            match value {
                Some(value) => {
                    let checksum = digest::checksum(&key.0, &value);
                    after.digest.add(&key.0, checksum);
                    if self.shared.hot.has(&key) {
                        hot.push((key.clone(), value.clone()));
                    }
                    let (codec, bytes) = self.encoder.encode(value);
                    builder.put(key, &Stored { codec, checksum, bytes, origin });
                }
                None if old.is_none() => continue,
                None => builder.delete(key, origin),
            }
            olds.push(old);
        }
        self.append(builder, after, olds)?;
        // Nobody else writes, so that these are still the newest versions.
        hot.into_iter().for_each(|(key, value)| self.shared.hot.keep(key, value));
        let mut state = self.shared.state.write();
        state.after.head = after.head;
        Ok(())
    }

    /// A frame at the end of the log.
    pub(super) fn builder(&mut self) -> Result<Builder, StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::engine(reason.clone()));
        }
        if self.current.size >= self.segment_limit() {
            self.roll()?;
        }
        Ok(Builder::new(self.current.number, self.current.size))
    }

    /// Writes and syncs the frame, then shows its changes; `olds` is what its rows were before.
    /// Positions up to `after.head` are not shown: that is the caller's.
    pub(super) fn append(
        &mut self,
        builder: Builder,
        after: After,
        olds: Vec<Option<Entry>>,
    ) -> Result<(), StoreError> {
        let number = self.shared.state.read().tip.frame + 1;
        let Some(Built { bytes, changes }) = builder.finish(number, &after) else {
            return Err(StoreError::engine("one group of commits is longer than four gibibytes"));
        };
        let free = files::free_bytes(&self.shared.folder).map_err(StoreError::engine)?;
        if free < STORE_FREE_BYTES_MIN + bytes.len() as u64 {
            return Err(StoreError::engine(format!(
                "the disk is full: it has {free} bytes left, and the last {STORE_FREE_BYTES_MIN} are kept for the index"
            )));
        }
        let sync = self.shared.settings.durability == Durability::EveryCommit;
        if let Err(error) = self.current.append(&bytes, sync) {
            if matches!(error, AppendError::Unclear(_)) {
                self.broken = Some(error.to_string());
            }
            return Err(StoreError::engine(error));
        }
        let urgent = {
            let mut state = self.shared.state.write();
            for ((key, change), old) in changes.into_iter().zip(olds) {
                self.shared.hot.forget(&key);
                state.apply(key, change, old.as_ref());
            }
            state.after.reserved = after.reserved;
            state.after.digest = after.digest;
            let (segment, offset) = (self.current.number, self.current.size);
            state.tip = Tip { frame: number, segment, offset, digest: after.digest };
            if let Some(segment) = state.segments.get_mut(&segment) {
                segment.size = offset;
            }
            state.dirty_bytes += bytes.len() as u64;
            state.dirty_bytes >= self.shared.settings.checkpoint_bytes
                || state.active.len() >= STORE_PENDING_ROWS_MAX / 8
        };
        self.shared.wish_checkpoint(urgent);
        Ok(())
    }

    fn reserve(&mut self, count: u64) -> Result<Position, StoreError> {
        let mut after = self.shared.state.read().after;
        after.reserved = after.head.saturating_add(count).saturating_add(STORE_RESERVE_BLOCK);
        let builder = self.builder()?;
        self.append(builder, after, Vec::new())?;
        self.shared.reserve(count).ok_or_else(|| StoreError::engine("positions ran out"))
    }

    /// How long a segment gets: a part of the whole, so that there are never many.
    fn segment_limit(&self) -> u64 {
        let state = self.shared.state.read();
        let total: u64 = state.segments.values().map(|segment| segment.size).sum();
        (total / 32).clamp(self.shared.settings.segment_bytes, self.shared.settings.segment_bytes * 8)
    }

    /// Leaves the current segment for a new one.
    fn roll(&mut self) -> Result<(), StoreError> {
        if !self.current.synced {
            self.current.file.sync_data().map_err(StoreError::engine)?;
        }
        let frame = self.shared.state.read().tip.frame + 1;
        let synced = self.shared.settings.durability == Durability::EveryCommit;
        let fresh = Segment::create(&self.shared.folder, self.current.number + 1, frame, synced);
        let fresh = fresh.map_err(StoreError::engine)?;
        self.archive(self.current.number)?;
        self.shared.state.write().segments.insert(fresh.number, fresh.clone());
        self.current = fresh;
        Ok(())
    }

    /// Keeps a copy of a finished segment, where that is configured.
    fn archive(&self, number: u64) -> Result<(), StoreError> {
        let Some(archive) = &self.shared.settings.archive else { return Ok(()) };
        let from = segment::path(&self.shared.folder, number);
        let Some(name) = from.file_name() else { return Ok(()) };
        let to = archive.join(name);
        if to.exists() {
            return Ok(());
        }
        // The same file under another name costs nothing; on another disk it has to be a copy.
        let kept = std::fs::hard_link(&from, &to).or_else(|_| {
            let fresh = to.with_extension("new");
            std::fs::copy(&from, &fresh)?;
            std::fs::File::open(&fresh)?.sync_all()?;
            std::fs::rename(&fresh, &to)
        });
        kept.and_then(|()| files::sync_folder(archive)).map_err(StoreError::engine)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        // Positions that were set aside and not handed out need not be skipped.
        let mut after = self.shared.state.read().after;
        if after.reserved != after.head {
            after.reserved = after.head;
            let builder = self.builder()?;
            self.append(builder, after, Vec::new())?;
        }
        self.shared.stop_checkpoints();
        self.shared.checkpoint()
    }
}
