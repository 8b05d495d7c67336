//! How much a user keeps here, so that nobody keeps without end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ruma::{RoomId, UserId};

use super::{
    AccountError, Accounts,
    data::{ACCOUNT_DATA, PUSH_RULES, room_field},
};
use crate::{
    limits::{ACCOUNT_DATA_TOTAL_BYTES_MAX, ACCOUNT_DATA_TYPES_MAX, COUNTED_ROWS_PAGE},
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
        if growth.before.is_some_and(|before| growth.bytes <= before) {
            return Ok(());
        }
        let place = (user.to_owned(), room_field(growth.room));
        if growth.before.is_none()
            && self.measure(&ACCOUNT_DATA.prefix(&place)).await?.rows >= ACCOUNT_DATA_TYPES_MAX
        {
            return Err(AccountError::TooLarge("There are too many types of account data"));
        }
        let key = ACCOUNT_DATA.key(&(place.0, place.1, growth.event_type.to_owned()));
        let more = growth.before.map_or(key.0.len() + growth.bytes, |before| growth.bytes - before);
        // What is remembered is hardly ever too little: it grows with what is written, and nothing is taken off.
        let known = async { Ok::<_, StoreError>(Arc::new(AtomicUsize::new(self.data_bytes(user).await?))) };
        let known = self.data_bytes.get_or_insert_async(user, known).await?;
        if known.fetch_add(more, Ordering::Relaxed) + more > ACCOUNT_DATA_TOTAL_BYTES_MAX {
            let bytes = self.data_bytes(user).await? + more;
            known.store(bytes, Ordering::Relaxed);
            if bytes > ACCOUNT_DATA_TOTAL_BYTES_MAX {
                return Err(AccountError::TooLarge("There is too much account data"));
            }
        }
        Ok(())
    }

    /// The bytes of all account data of a user but the push rules, which have a bound of their own.
    async fn data_bytes(&self, user: &UserId) -> Result<usize, StoreError> {
        let all = self.measure(&ACCOUNT_DATA.prefix(&(user.to_owned(),))).await?.bytes;
        let rules = (user.to_owned(), room_field(None), PUSH_RULES.to_owned());
        Ok(all.saturating_sub(self.measure(&ACCOUNT_DATA.prefix(&rules)).await?.bytes))
    }
}
