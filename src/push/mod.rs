//! Push-rule evaluation and unread counts, both as folds over a lane.
//!
//! Owns: the counts in memory; nothing stored. May use: `types`, `limits`, `store`, `log`, `dag`,
//! `history`, `account`. Start reading at [`Push`], then `unread`. Invariants: what is in memory can be
//! computed again from the log; senders write nothing for those who count.

mod evaluate;
mod person;
mod unread;

use std::{fmt, sync::Arc};

use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, OwnedUserId};

pub use person::Person;
pub use unread::{Counts, Unread};

use crate::{
    account::{AccountError, Accounts},
    history::History,
    limits::{PUSH_CONTEXTS_MAX, PUSH_PEOPLE_MAX, UNREAD_ROOMS_MAX},
    log::Log,
    store::StoreError,
};

/// Why nothing can be said of notifications.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// An account's rows could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Knows who is to be notified of what. Cheap to clone.
#[derive(Clone)]
pub struct Push(Arc<Inner>);

struct Inner {
    log: Log,
    history: History,
    accounts: Accounts,
    people: Cache<OwnedUserId, Arc<Person>>,
    contexts: Cache<(OwnedUserId, OwnedRoomId), Arc<evaluate::RoomContext>>,
    unread: Cache<(OwnedUserId, OwnedRoomId), Arc<unread::Fold>>,
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Push")
    }
}

impl Push {
    /// Counts what the given services know.
    #[must_use]
    pub fn new(history: History, accounts: Accounts) -> Self {
        Self(Arc::new(Inner {
            log: history.log().clone(),
            history,
            accounts,
            people: Cache::new(PUSH_PEOPLE_MAX),
            contexts: Cache::new(PUSH_CONTEXTS_MAX),
            unread: Cache::new(UNREAD_ROOMS_MAX),
        }))
    }
}
