//! How much a user keeps here, so that nobody keeps without end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use ruma::{OwnedUserId, RoomId, UserId};

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

/// Account data that is to be written or removed: where, the size of what is there, and of what will be.
pub(super) struct Growth<'a> {
    pub(super) room: Option<&'a RoomId>,
    pub(super) event_type: &'a str,
    pub(super) before: Option<usize>,
    pub(super) after: Option<usize>,
}

impl Growth<'_> {
    fn place(&self, user: &UserId) -> (OwnedUserId, String) {
        (user.to_owned(), room_field(self.room))
    }

    /// The bytes before and after, with the key.
    fn bytes(&self, (user, room): (OwnedUserId, String)) -> (usize, usize) {
        let key = ACCOUNT_DATA.key(&(user, room, self.event_type.to_owned()));
        let size = |bytes: Option<usize>| bytes.map_or(0, |bytes| key.0.len() + bytes);
        (size(self.before), size(self.after))
    }
}

/// What a change is to the tallies. What it adds is in them already; what it takes, not until it is done. Who forgets to say
/// what has become of it leaves them too large.
#[must_use]
#[derive(Default)]
pub(super) struct Counted {
    added: Vec<(Arc<Tally>, usize)>,
    taken: Vec<(Arc<Tally>, usize)>,
}

impl Counted {
    fn add(&mut self, tally: Arc<Tally>, more: usize) {
        tally.add(more);
        self.added.push((tally, more));
    }

    /// The change is done, and what it replaced was as it was counted.
    pub(super) fn settle(self) {
        self.taken.into_iter().for_each(|(tally, less)| tally.take(less));
    }

    /// The change is not done.
    pub(super) fn withdraw(self) {
        self.added.into_iter().for_each(|(tally, more)| tally.take(more));
    }
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
    pub(super) async fn check_growth(
        &self,
        user: &UserId,
        growth: Growth<'_>,
    ) -> Result<Counted, AccountError> {
        let place = growth.place(user);
        let (before, after) = growth.bytes(place.clone());
        let mut counted = Counted::default();
        if after <= before {
            let kept = self.data_bytes.get(user);
            counted.taken.extend(kept.map(|kept| (kept, before - after)));
            let types =
                self.data_types.get(&place).filter(|_| growth.before.is_some() && growth.after.is_none());
            counted.taken.extend(types.map(|types| (types, 1)));
            return Ok(counted);
        }
        let bytes = after - before;
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
            counted.add(types, 1);
        }
        counted.add(kept, bytes);
        Ok(counted)
    }

    /// Account data will be written although there may be no room for it.
    pub(super) fn note_more(&self, user: &UserId, growth: &Growth<'_>) {
        let place = growth.place(user);
        if let Some(kept) = self.data_bytes.get(user) {
            let (before, after) = growth.bytes(place.clone());
            kept.add(after.saturating_sub(before));
        }
        if let Some(types) = self.data_types.get(&place).filter(|_| growth.before.is_none()) {
            types.add(1);
        }
    }

    /// The bytes of all account data of a user but the push rules, which have a bound of their own.
    async fn data_bytes(&self, user: &UserId) -> Result<usize, StoreError> {
        let all = self.measure(&ACCOUNT_DATA.prefix(&(user.to_owned(),))).await?.bytes;
        let rules = (user.to_owned(), room_field(None), PUSH_RULES.to_owned());
        Ok(all.saturating_sub(self.measure(&ACCOUNT_DATA.prefix(&rules)).await?.bytes))
    }
}

/// How much there is, counted once and kept up to date. What is not heard of makes it too large rather than too small, so
/// that it is counted again before somebody is refused; but not each time. Only the markers of what has been read fully are
/// not in it until then, one in each room: nobody can take them out of it either.
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
