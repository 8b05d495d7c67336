//! How much a user keeps here, so that nobody keeps without end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use ruma::{RoomId, UserId};

use super::{
    AccountError, Accounts,
    data::{ACCOUNT_DATA, PUSH_RULES, room_field},
};
use crate::{
    limits::{
        ACCOUNT_DATA_COUNTED_EVERY_MS, ACCOUNT_DATA_TOTAL_BYTES_MAX, ACCOUNT_DATA_TYPES_MAX,
        COUNTED_ROWS_PAGE,
    },
    store::{Key, Scan, StoreError},
};

/// A number of rows, and their bytes with the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Account data that is to be written: where, its size, and that of what it replaces.
pub(super) struct Growth<'a> {
    pub(super) room: Option<&'a RoomId>,
    pub(super) event_type: &'a str,
    pub(super) bytes: usize,
    pub(super) before: Option<usize>,
}

impl Accounts {
    /// The rows whose keys begin with `prefix`, read a page at a time.
    pub(super) async fn measure(&self, prefix: &Key) -> Result<Size, StoreError> {
        let (mut from, to) = (prefix.clone(), prefix.after_prefix());
        let mut size = Size::default();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: COUNTED_ROWS_PAGE };
            let page = self.log.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
            size.rows += page.len();
            size.bytes += page.iter().map(|(key, value)| key.0.len() + value.len()).sum::<usize>();
            match page.last() {
                Some((last, _)) if page.len() == COUNTED_ROWS_PAGE => from = last.successor(),
                _ => return Ok(size),
            }
        }
    }

    /// Refuses account data for which there is no room. What makes it smaller is always taken. Two requests at the same
    /// time may both be the last one.
    pub(super) async fn check_growth(&self, user: &UserId, growth: Growth<'_>) -> Result<(), AccountError> {
        let place = (user.to_owned(), room_field(growth.room));
        let key = ACCOUNT_DATA.key(&(place.0.clone(), place.1.clone(), growth.event_type.to_owned()));
        let bytes = match growth.before {
            Some(before) if growth.bytes <= before => {
                self.note_less(user, before - growth.bytes);
                return Ok(());
            }
            Some(before) => growth.bytes - before,
            None => key.0.len() + growth.bytes,
        };
        let now_ms = self.ports.clock.now_ms();
        let all = async || self.data_bytes(user).await;
        let kept = async { Ok::<_, StoreError>(Arc::new(Tally::new(all().await?, now_ms))) };
        let kept = self.data_bytes.get_or_insert_async(user, kept).await?;
        if !kept.admits(bytes, ACCOUNT_DATA_TOTAL_BYTES_MAX, (now_ms, all)).await? {
            return Err(AccountError::TooLarge("There is too much account data"));
        }
        if growth.before.is_none() {
            let all = async || Ok(self.measure(&ACCOUNT_DATA.prefix(&place)).await?.rows);
            let types = async { Ok::<_, StoreError>(Arc::new(Tally::new(all().await?, now_ms))) };
            let types = self.data_types.get_or_insert_async(&place, types).await?;
            if !types.admits(1, ACCOUNT_DATA_TYPES_MAX, (now_ms, all)).await? {
                return Err(AccountError::TooLarge("There are too many types of account data"));
            }
            types.add(1);
        }
        kept.add(bytes);
        Ok(())
    }

    /// So many bytes of account data are less.
    fn note_less(&self, user: &UserId, bytes: usize) {
        if let Some(kept) = self.data_bytes.get(user) {
            kept.take(bytes);
        }
    }

    /// Account data of `bytes` is removed.
    pub(super) fn note_removed(
        &self,
        user: &UserId,
        (room, event_type): (Option<&RoomId>, &str),
        bytes: usize,
    ) {
        let place = (user.to_owned(), room_field(room));
        if let Some(types) = self.data_types.get(&place) {
            types.take(1);
        }
        let key = ACCOUNT_DATA.key(&(place.0, place.1, event_type.to_owned()));
        self.note_less(user, key.0.len() + bytes);
    }

    /// The bytes of all account data of a user but the push rules, which have a bound of their own.
    async fn data_bytes(&self, user: &UserId) -> Result<usize, StoreError> {
        let all = self.measure(&ACCOUNT_DATA.prefix(&(user.to_owned(),))).await?.bytes;
        let rules = (user.to_owned(), room_field(None), PUSH_RULES.to_owned());
        Ok(all.saturating_sub(self.measure(&ACCOUNT_DATA.prefix(&rules)).await?.bytes))
    }
}

/// How much there is, counted once and kept up to date. What is not heard of makes it too large rather than too small, so
/// that it is counted again before somebody is refused; but not each time.
pub(super) struct Tally {
    count: AtomicUsize,
    /// When it was counted, in milliseconds since the epoch.
    counted_ms: AtomicU64,
}

impl Tally {
    fn new(count: usize, now_ms: u64) -> Self {
        Self { count: AtomicUsize::new(count), counted_ms: AtomicU64::new(now_ms) }
    }

    /// Whether `more` may come to it.
    async fn admits(
        &self,
        more: usize,
        most: usize,
        (now_ms, all): (u64, impl AsyncFnOnce() -> Result<usize, StoreError>),
    ) -> Result<bool, StoreError> {
        let fits = || self.count.load(Ordering::Relaxed).saturating_add(more) <= most;
        let counted_ms = self.counted_ms.load(Ordering::Relaxed);
        if !fits() && now_ms.saturating_sub(counted_ms) >= ACCOUNT_DATA_COUNTED_EVERY_MS {
            self.count.store(all().await?, Ordering::Relaxed);
            self.counted_ms.store(now_ms, Ordering::Relaxed);
        }
        Ok(fits())
    }

    fn add(&self, more: usize) {
        self.count.fetch_add(more, Ordering::Relaxed);
    }

    fn take(&self, less: usize) {
        let less = |count: usize| Some(count.saturating_sub(less));
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
