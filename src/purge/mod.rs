//! What is removed for good: messages whose time is over, what a user said, rooms, and the files that go with them.
//!
//! Owns: when and in which order things go. May use: everything down to `history`, `account`, `device`, `media`,
//! `report` and `room`.
//! Start reading at [`Purge`]; [`Purge::tend`] is called now and then, and does what is due. Invariants: whatever is
//! broken off goes on at the next call; what is left of an event is what its room needs to go on.

mod account;
mod files;
mod redact;
mod retention;
mod room;
mod unseen;
mod user;

pub use redact::{UserRedaction, UserRedactionStatus};
pub use room::{Removal, RemovalBegun, RemovalStatus, Successor};

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use ruma::OwnedRoomId;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    account::{AccountError, Accounts},
    device::{DeviceError, Devices},
    history::{History, tables::FORGOTTEN_TEXTS},
    limits::{FORGOTTEN_TEXTS_KEPT_MS, PURGE_EVERY, RECEIVED_LOOKED_AT_EVERY_MS},
    log::{Commit, CommitError, Log},
    media::{Media, MediaError},
    report::{ReportError, Reports},
    room::{Delayed, DelayedError, RoomError, Rooms},
    store::StoreError,
    types::Ports,
    upkeep,
};

/// How long messages are kept; see the `retention` part of the configuration. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// In rooms that do not say it themselves; for ever, if it is not set.
    pub usual_ms: Option<u64>,
    /// No room has messages removed earlier.
    pub shortest_ms: Option<u64>,
    /// No room keeps messages longer.
    pub longest_ms: Option<u64>,
}

/// What is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long messages are kept, if they are removed at all.
    pub retention: Option<Retention>,
    /// Whether files go with the last event that shows them.
    pub files: bool,
    /// After how long the account of a guest ends who has not been heard of, in milliseconds, if it ends at all.
    pub guest_idle_ms: Option<u64>,
}

/// Removes things. Cheap to clone.
#[derive(Clone)]
pub struct Purge(Arc<Inner>);

struct Inner {
    history: History,
    accounts: Accounts,
    devices: Devices,
    media: Media,
    reports: Reports,
    rooms: Rooms,
    delayed: Delayed,
    ports: Ports,
    settings: Settings,
    redactions: redact::UserRedactions,
    /// How far rooms have been looked at for messages whose time is over; by the next start they are looked at from the
    /// beginning.
    looked: Mutex<HashMap<OwnedRoomId, retention::Looked>>,
    /// When all guests have been looked at, in milliseconds since the epoch.
    guests_seen_ms: AtomicU64,
    /// When it was looked at last what other servers have brought, in milliseconds since the epoch.
    received_seen_ms: AtomicU64,
    /// Told when something is to be removed soon.
    wanted: Notify,
    /// Told when all rooms that are to go have been looked at.
    looked_at: Notify,
}

/// What fails while other things go on.
#[derive(Default)]
struct Trouble(Option<PurgeError>);

impl Trouble {
    /// Says that `what` is still there, if it is.
    fn note(&mut self, what: impl fmt::Display, done: Result<(), PurgeError>) {
        if let Err(error) = done {
            tracing::error!(%error, "not all is removed that is to be: {what}; it will be tried again");
            self.0.get_or_insert(error);
        }
    }

    /// What was noted first.
    fn end(self) -> Result<(), PurgeError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// This server does not know it.
    #[error("This server does not know that")]
    NotFound,
    /// A room could not be changed.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// What was to be said later could not be removed.
    #[error(transparent)]
    Delayed(#[from] DelayedError),
    /// An account could not be changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A device could not be removed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file could not be removed.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// What was reported could not be removed.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Rows could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Purge {
    /// Removes from these.
    #[must_use]
    pub fn new(
        (history, accounts, devices): (History, Accounts, Devices),
        (media, reports): (Media, Reports),
        (rooms, delayed): (Rooms, Delayed),
        (ports, settings): (Ports, Settings),
    ) -> Self {
        let (guests_seen_ms, received_seen_ms) = Default::default();
        let (wanted, looked_at) = Default::default();
        Self(Arc::new(Inner {
            history,
            accounts,
            devices,
            media,
            reports,
            rooms,
            delayed,
            ports,
            settings,
            redactions: redact::UserRedactions::default(),
            looked: Mutex::default(),
            guests_seen_ms,
            received_seen_ms,
            wanted,
            looked_at,
        }))
    }

    /// Does what is due now and then on `tasks`, until `stopping`.
    pub fn keep(&self, (tasks, stopping): (&TaskTracker, CancellationToken)) {
        let (this, until) = (self.clone(), stopping.clone());
        let work = move || this.clone().run(until.clone());
        tasks.spawn(upkeep::keep("the removal of what is to go", stopping, work));
    }

    async fn run(self, stopping: CancellationToken) {
        let tending = async {
            if let Err(error) = self.begin().await {
                tracing::error!(%error, "files will not go with the events that show them");
            }
            loop {
                // What it fails with is said by then.
                drop(self.tend().await);
                tokio::select! {
                    () = tokio::time::sleep(PURGE_EVERY) => {}
                    () = self.0.wanted.notified() => {}
                }
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tending => {}
        }
    }

    /// Does what is due. What fails is said in the log, holds up nothing else, and is tried again by the next call.
    ///
    /// # Errors
    /// What failed first, once all else is done.
    pub async fn tend(&self) -> Result<(), PurgeError> {
        let mut trouble = Trouble::default();
        let done = self.finish_rooms().await;
        trouble.note("rooms that are to go", done);
        let done = self.end_guests(&mut trouble).await;
        trouble.note("accounts of guests", done);
        let done = self.end_messages(&mut trouble).await;
        trouble.note("messages whose time is over", done);
        let done = self.end_files(&mut trouble).await;
        trouble.note("files that nothing shows", done);
        let done = self.forget_forgotten().await;
        trouble.note("what the search has forgotten", done);
        let done = self.0.reports.forget_evidence().await.map_err(PurgeError::from);
        trouble.note("what was reported long ago", done);
        let done = self.forget_received().await;
        trouble.note("ids of what other servers have brought", done);
        let done = self.scrub(&mut trouble).await;
        trouble.note("copies on the disk", done);
        trouble.end()
    }

    /// Has what is due be done soon.
    pub fn wake(&self) {
        self.0.wanted.notify_one();
    }

    /// What is removed.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn log(&self) -> &Log {
        self.0.history.log()
    }

    fn now_ms(&self) -> u64 {
        self.0.ports.clock.now_ms()
    }

    /// Ids of what other servers have brought long ago go, now and then.
    async fn forget_received(&self) -> Result<(), PurgeError> {
        let (now_ms, seen_ms) = (self.now_ms(), &self.0.received_seen_ms);
        if now_ms >= seen_ms.load(Ordering::Relaxed).saturating_add(RECEIVED_LOOKED_AT_EVERY_MS) {
            self.0.devices.forget_received().await?;
            seen_ms.store(now_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What every index has forgotten by now need not be told any more.
    async fn forget_forgotten(&self) -> Result<(), PurgeError> {
        let Some(before) = self.now_ms().checked_sub(FORGOTTEN_TEXTS_KEPT_MS) else { return Ok(()) };
        let from = FORGOTTEN_TEXTS.prefix(&());
        let to = FORGOTTEN_TEXTS.prefix(&(before,));
        let first = crate::store::Scan { from: from.clone(), to: to.clone(), reverse: false, limit: 1 };
        if !self.log().db().scan(&FORGOTTEN_TEXTS, first).await?.is_empty() {
            let mut commit = Commit::new();
            commit.delete_range(from, to);
            self.log().commit(commit).await?;
        }
        Ok(())
    }
}
