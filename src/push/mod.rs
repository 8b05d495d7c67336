//! Push-rule evaluation and unread counts, both as folds over a lane; and the rows of pushers.
//!
//! Owns: the counts in memory, and the tables `Pusher` and `PusherKey`. May use: `types`, `limits`,
//! `store`, `log`, `dag`, `history`, `account`. Start reading at [`Push`], then `unread`; `delivery` serves
//! the pushers. Invariants: what is in memory can be computed again from the log; senders write nothing
//! for those who count; a pusher's row goes with the device that made it.

mod badge;
mod evaluate;
mod glob;
mod notice;
mod notifications;
mod person;
mod pusher;
mod rules;
mod seen;
mod unread;

use std::{fmt, sync::Arc};

use quick_cache::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

pub use notice::Notice;
pub use notifications::Notification;
pub use person::{Person, decides_counts};
pub use pusher::{MAIL_APP, PusherId, PusherRow, PusherSetting, Trouble, Writing};
pub use unread::{Counts, Unread};

use crate::{
    account::{AccountError, Accounts},
    history::History,
    limits::{PUSH_BADGES_MAX, PUSH_CONTEXTS_MAX, PUSH_EVENTS_MAX, PUSH_PEOPLE_MAX, UNREAD_ROOMS_MAX},
    log::{CommitError, Log},
    store::StoreError,
    types::Position,
};

/// Why nothing can be said of notifications.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// An account's rows could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A parameter of a pusher has a value that it must not have; the text says why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The device that sets a pusher is gone, or others kept changing the same rows.
    #[error("The pusher is being changed by others")]
    Contended,
    /// The log refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
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
    /// With the position up to which nothing has changed them.
    people: Cache<OwnedUserId, (Arc<Person>, Position)>,
    /// Events as rules look at them: everybody in a room looks at the same ones at about the same time.
    seen: Cache<OwnedEventId, Arc<seen::Seen>>,
    contexts: Cache<(OwnedUserId, OwnedRoomId), Arc<evaluate::RoomContext>>,
    unread: Cache<(OwnedUserId, OwnedRoomId), Arc<unread::Fold>>,
    badges: Cache<OwnedUserId, Arc<badge::Badge>>,
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
            seen: Cache::new(PUSH_EVENTS_MAX),
            contexts: Cache::new(PUSH_CONTEXTS_MAX),
            unread: Cache::new(UNREAD_ROOMS_MAX),
            badges: Cache::new(PUSH_BADGES_MAX),
        }))
    }
}
