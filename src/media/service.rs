//! The service: what it is made of, and what happens at its start.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::{
    Fields, Hash, Loss, MediaError, Place, Previews,
    arrival::Arrivals,
    blobs::{Blobs, Sort},
    keep::Address,
    rows::{CONTENTS, GARBAGE, SUMS, THUMBNAILS},
    tend::Cached,
    thumbnail::{Job, Refusal},
};
use crate::{
    limits::{
        MEDIA_ABSENT_MAX, MEDIA_FETCHES_EACH_MAX, MEDIA_FETCHES_MAX, MEDIA_REMOVALS_FAILED_MAX,
        MEDIA_THUMBNAILS_AT_ONCE, MEDIA_UNFIT_MAX, MEDIA_UPLOADS_OF_USER_MAX, PREVIEWS_AT_ONCE,
        SCAN_ROWS_MAX,
    },
    log::{Commit, Log},
    peer::{Flights, Peers, Slots},
    store::{Key, Scan},
    types::Ports,
};

/// How files are kept; see the `media` part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the bytes are.
    pub place: Place,
    /// The largest file that a user may upload, in bytes.
    pub upload_bytes_max: u64,
    /// What all files of one user may have together, in bytes.
    pub quota_bytes: Option<u64>,
    /// The largest file of another server that is fetched, in bytes.
    pub remote_bytes_max: u64,
    /// What all files of other servers, and previews with their pictures, may have together, in bytes.
    pub cache_bytes_max: u64,
    /// How long files of our users are kept though nobody looks at them, in milliseconds.
    pub local_keep_ms: Option<u64>,
    /// How long files of other servers are kept though nobody looks at them, in milliseconds.
    pub remote_keep_ms: Option<u64>,
    /// How previews of pages are made, if they are.
    pub previews: Option<Previews>,
    /// Files that came here before this moment are also given to whoever has no access token.
    pub unauthenticated_before_ms: u64,
}

/// Files whose bytes are removed before that is written down.
const BIN_PAGE: usize = 500;

/// The files. Cheap to clone.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

/// What the service holds.
pub struct Inner {
    pub(super) log: Log,
    pub(super) ports: Ports,
    pub(super) server_name: OwnedServerName,
    pub(super) settings: Settings,
    pub(super) blobs: Blobs,
    pub(super) tasks: TaskTracker,
    pub(super) peers: Peers,
    pub(super) fetches: Flights<Address, Result<(), Loss>>,
    pub(super) arrivals: Arrivals,
    pub(super) fetching: Semaphore,
    pub(super) fetching_each: Slots,
    /// Files that other servers have just said not to have: until when they are not asked again.
    pub(super) absent: Cache<Address, Duration>,
    /// How much is here that can be had again, if that is known.
    pub(super) cached: tokio::sync::Mutex<Option<Cached>>,
    pub(super) previews: Flights<String, Result<Fields, Loss>>,
    pub(super) previewing: Semaphore,
    /// Told when a file has been uploaded to an address that was given out before.
    pub(super) uploaded: Notify,
    pub(super) drawing: Semaphore,
    /// One place for each who asks.
    pub(super) drawing_each: Slots<String>,
    /// Thumbnails that cannot be made: until when that is not tried again, and why.
    pub(super) unfit: Cache<Job, (Duration, Refusal)>,
    pub(super) drawings: Flights<Job, Result<(), Refusal>>,
    uploading: Mutex<HashMap<OwnedUserId, usize>>,
    /// Where to go on with the bytes of deleted files, behind those that could not be removed.
    bin_ahead: Mutex<Option<Key>>,
}

impl std::ops::Deref for Media {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Media {
    /// Opens the files of the server that `peers` speak for. Work that must not be broken off is done on `tasks`.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    pub fn open(
        log: Log,
        ports: Ports,
        peers: Peers,
        settings: Settings,
        tasks: TaskTracker,
    ) -> Result<Self, MediaError> {
        let blobs = Blobs::open(&settings.place)?;
        Ok(Self(Arc::new(Inner {
            log,
            ports,
            server_name: peers.server_name().to_owned(),
            settings,
            blobs,
            tasks,
            peers,
            fetches: Flights::default(),
            arrivals: Arrivals::default(),
            fetching: Semaphore::new(MEDIA_FETCHES_MAX),
            fetching_each: Slots::new(MEDIA_FETCHES_EACH_MAX),
            absent: Cache::new(MEDIA_ABSENT_MAX),
            cached: tokio::sync::Mutex::default(),
            previews: Flights::default(),
            previewing: Semaphore::new(PREVIEWS_AT_ONCE),
            uploaded: Notify::new(),
            drawing: Semaphore::new(MEDIA_THUMBNAILS_AT_ONCE),
            drawing_each: Slots::new(1),
            unfit: Cache::new(MEDIA_UNFIT_MAX),
            drawings: Flights::default(),
            uploading: Mutex::default(),
            bin_ahead: Mutex::default(),
        })))
    }

    /// How files are kept.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn is_ours(&self, server: &ServerName) -> bool {
        *server == self.server_name
    }

    /// Removes what was on its way in when the last process died. Nothing may be on its way in meanwhile.
    ///
    /// # Errors
    /// When the storage or the store fails. The server works all the same.
    pub async fn recover(&self) -> Result<(), MediaError> {
        for (path, name) in self.blobs.left_over().await? {
            self.clear(&path, &name).await?;
        }
        Ok(())
    }

    /// A file with this name was on its way in; whether its row was written decides whether its bytes stay.
    async fn clear(&self, path: &Path, name: &str) -> Result<(), MediaError> {
        if let Some((sort, hash)) = Blobs::parse_name(name)
            && !self.is_known(sort, hash, name).await?
        {
            self.blobs.remove(name).await?;
        }
        Ok(tokio::fs::remove_file(path).await?)
    }

    async fn is_known(&self, sort: Sort, hash: Hash, name: &str) -> Result<bool, MediaError> {
        let db = self.log.db();
        Ok(match sort {
            Sort::Whole => {
                db.row(&CONTENTS, &(hash.0,)).await?.is_some_and(|row| row.name.as_deref() == Some(name))
            }
            Sort::Thumbnail => {
                let rows = db.range(&THUMBNAILS, &(hash.0,), SCAN_ROWS_MAX).await?;
                rows.iter().any(|(_, row)| row.name.as_deref() == Some(name))
            }
        })
    }

    /// Removes the bytes that files have let go which were deleted. What the storage does not remove holds up nothing else,
    /// and is tried again by later calls; if that is much, as when the storage is away, the next call begins behind it.
    ///
    /// # Errors
    /// What failed first, of the storage or the store.
    pub async fn empty_bin(&self) -> Result<(), MediaError> {
        let (begin, end) = (GARBAGE.prefix(&()), GARBAGE.prefix(&()).after_prefix());
        let ahead = self.bin_ahead.lock().take().unwrap_or_else(|| begin.clone());
        let mut trouble = Trouble::default();
        self.empty_part((ahead.clone(), &end), &mut trouble).await?;
        self.empty_part((begin, &ahead), &mut trouble).await?;
        trouble.first.map_or(Ok(()), Err)
    }

    async fn empty_part(&self, (mut from, to): (Key, &Key), trouble: &mut Trouble) -> Result<(), MediaError> {
        while trouble.count < MEDIA_REMOVALS_FAILED_MAX && from < *to {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: BIN_PAGE };
            let names = self.log.db().scan(&GARBAGE, scan).await?;
            let Some((last, _)) = names.last() else { return Ok(()) };
            from = GARBAGE.key(last).successor();
            let mut commit = Commit::new();
            for (key, _) in names {
                if let Err(error) = self.blobs.remove(&key.0).await {
                    tracing::error!(%error, "the bytes of a file that was deleted are still there: {}", key.0);
                    trouble.first.get_or_insert(error);
                    trouble.count += 1;
                    if trouble.count == MEDIA_REMOVALS_FAILED_MAX {
                        *self.bin_ahead.lock() = Some(GARBAGE.key(&key).successor());
                        break;
                    }
                    continue;
                }
                commit.delete(&SUMS, &key);
                commit.delete(&GARBAGE, &key);
            }
            if !commit.is_empty() {
                self.log.commit(commit).await?;
            }
        }
        Ok(())
    }

    /// A place for one more upload of `user`.
    pub(super) fn begin_upload(&self, user: &UserId) -> Result<Uploading, MediaError> {
        let mut uploading = self.uploading.lock();
        let count = uploading.entry(user.to_owned()).or_default();
        if *count >= MEDIA_UPLOADS_OF_USER_MAX {
            return Err(MediaError::TooMany(Duration::from_secs(5)));
        }
        *count += 1;
        Ok(Uploading { media: self.clone(), user: user.to_owned() })
    }
}

/// What the storage did not remove.
#[derive(Default)]
struct Trouble {
    first: Option<MediaError>,
    count: usize,
}

/// One upload of a user, while it is under way.
pub(super) struct Uploading {
    media: Media,
    user: OwnedUserId,
}

impl Drop for Uploading {
    fn drop(&mut self) {
        let mut uploading = self.media.uploading.lock();
        if let Some(count) = uploading.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                uploading.remove(&self.user);
            }
        }
    }
}
