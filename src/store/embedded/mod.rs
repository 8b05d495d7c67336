//! The default engine: the log on disk in segments, sled as its index.
//!
//! A group of commits is judged, appended to the current segment as one frame, synced once, and only
//! then visible. The index says for each row where its newest version stands in the log; it is brought
//! up to date at checkpoints, never trusted, and can be rebuilt from the log. Segments of which little
//! counts any more are collected.
//!
//! Start reading at [`Embedded`], then `engine` (writing), `shared` (reading), `open` (recovery).
//! Folder: `identity`, `lock`, `checkpoint`, `log/*.seg`, `index/`.

mod block;
mod checkpoint;
mod codec;
mod collect;
mod engine;
mod files;
mod frame;
mod hot;
mod identity;
mod index;
mod open;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod upkeep;
mod wire;

use std::{
    fmt,
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub use upkeep::{NewFile, Report, check, compact, import, restore};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::{
    engine::{Engine, Job},
    shared::Shared,
};
use super::{Batch, BoxFuture, Committed, Key, Row, Scan, Store, StoreError};
use crate::{limits::STORE_JOBS_MAX, types::Position};

/// When an acknowledged commit survives what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on the disk before it is acknowledged.
    #[default]
    EveryCommit,
    /// A power cut may lose the last seconds of acknowledged commits; a killed process loses nothing.
    LoseLastSecondsOnPowerCut,
}

/// How to open an embedded store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that holds it and nothing else.
    pub folder: PathBuf,
    /// The server it belongs to; another server's store is refused.
    pub server_name: String,
    /// What a commit promises.
    pub durability: Durability,
    /// Memory for the index's cache.
    pub cache_bytes: u64,
    /// A folder that gets a copy of every finished segment.
    pub archive: Option<PathBuf>,
    /// The longest time that changes wait for a checkpoint.
    pub checkpoint_every: Duration,
    /// The most log that waits for a checkpoint.
    pub checkpoint_bytes: u64,
    /// The length from which a segment is finished (more when the store is big).
    pub segment_bytes: u64,
    /// Move the index aside and rebuild it from the log.
    pub rebuild_index: bool,
}

impl Settings {
    /// The usual settings.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, server_name: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            server_name: server_name.into(),
            durability: Durability::default(),
            cache_bytes: 64 << 20,
            archive: None,
            checkpoint_every: Duration::from_secs(2),
            checkpoint_bytes: 64 << 20,
            segment_bytes: 8 << 20,
            rebuild_index: false,
        }
    }
}

/// An open embedded store.
pub struct Embedded {
    shared: Arc<Shared>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store is open.
    _lock: File,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in a folder, or makes one if the folder is empty or not there. Blocks while it
    /// replays what the last run left.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the folder is not one for us, or in use; [`StoreError::Corrupt`]
    /// when it is damaged. Nothing is changed then.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        files::make_folder(&settings.folder).map_err(StoreError::engine)?;
        identity::read(&settings.folder, &settings.server_name)?;
        if let Some(archive) = &settings.archive {
            files::make_folder(archive).map_err(StoreError::engine)?;
        }
        let lock = identity::lock(&settings.folder)?;
        let stage = identity::read(&settings.folder, &settings.server_name)?;
        let (shared, current) = open::open(settings, stage)?;
        let shared = Arc::new(shared);
        let (jobs, receiver) = sync_channel(STORE_JOBS_MAX);
        let engine = Engine::new(Arc::clone(&shared), current)?;
        let writer = thread::Builder::new()
            .name("store-log".to_owned())
            .spawn(move || engine.run(&receiver))
            .map_err(StoreError::engine)?;
        let (checkpoints, collect) = (Arc::clone(&shared), jobs.clone());
        let checkpointer = thread::Builder::new()
            .name("store-index".to_owned())
            // When the thread is busy, the next checkpoint asks again.
            .spawn(move || checkpoints.run_checkpoints(&|| drop(collect.try_send(Job::Collect))))
            .map_err(StoreError::engine)?;
        Ok(Self {
            shared,
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(vec![checkpointer, writer]),
            _lock: lock,
        })
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = match &*self.jobs.lock() {
            Some(jobs) => jobs.try_send(job(answer)),
            None => return Err(StoreError::Closed),
        };
        match sent {
            Ok(()) => answered.await.unwrap_or(Err(StoreError::Closed)),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
            Err(TrySendError::Full(_)) => Err(StoreError::engine("too many commits at once")),
        }
    }
}

impl Store for Embedded {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        Box::pin(async move { keys.iter().map(|key| self.shared.get(key)).collect() })
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        Box::pin(async move { scans.iter().map(|scan| self.shared.scan(scan)).collect() })
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(self.ask(move |answer| Job::Commit(group, answer)))
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            match self.shared.reserve(count) {
                Some(first) => Ok(first),
                None => self.ask(move |answer| Job::Reserve(count, answer)).await,
            }
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move { Ok(Position(self.shared.state.read().after.head)) })
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn scrub(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(Job::Scrub))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.ask(Job::Close).await?;
            self.jobs.lock().take();
            Ok(())
        })
    }
}

/// Ends the threads without a checkpoint: what a crash would leave is what the next start finds.
impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.stop_checkpoints();
        self.jobs.lock().take();
        for thread in self.threads.lock().drain(..) {
            // A panic of the thread has been reported by then.
            let _ = thread.join();
        }
    }
}
