//! Typing, receipts, presence, thread subscriptions: which fact, which lane, when.
//!
//! Owns: who types where and who is present, both in memory only, but for the table `Presence`: what users
//! say of themselves and when they were last there. May use: `types`, `limits`, `upkeep`, `log`,
//! `history`, `account`. Start reading at [`Ephemeral`]. Invariants: the typing fact of a room always
//! comes to name those who type now, in whatever order requests end; a receipt never moves back in the
//! timeline.

mod expiry;
mod presence;
mod receipt;
mod remote;
mod subscription;
mod typing;

use std::{fmt, sync::Arc};

use ruma::{RoomId, UserId};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use presence::{Said, Seen};
pub use receipt::{Markers, Moves, Thread};
pub use remote::{RemotePresence, RemoteReceipt};
pub use subscription::{Subscription, SubscriptionPage};

use crate::{
    account::{AccountError, Accounts},
    history::History,
    log::{CommitError, Log},
    store::StoreError,
    types::Ports,
    upkeep,
};

/// Why something ephemeral is refused.
#[derive(Debug, thiserror::Error)]
pub enum EphemeralError {
    /// Only members of the room may do this.
    #[error("You are not in this room")]
    NotJoined,
    /// There is no such thing; the text names the kind of thing.
    #[error("No such {0}")]
    NotFound(&'static str),
    /// A parameter has a value that it must not have.
    #[error("{0}")]
    Invalid(&'static str),
    /// The user has unsubscribed from the thread since the event that a client subscribes for.
    #[error("You have unsubscribed from the thread since")]
    Unsubscribed,
    /// The event that a client subscribes for is not one of the thread.
    #[error("The event is not in the thread")]
    NotInThread,
    /// This is somebody else's.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Account data could not be written.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The log did not take the commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Typing, receipts and presence. Cheap to clone.
#[derive(Clone)]
pub struct Ephemeral(Arc<Inner>);

struct Inner {
    log: Log,
    ports: Ports,
    history: History,
    accounts: Accounts,
    has_presence: bool,
    typing: typing::Typing,
    people: presence::People,
    /// Tells the task that expires things of an earlier deadline.
    sooner: Notify,
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral")
    }
}

impl Ephemeral {
    /// Starts with nobody typing and nobody present. What expires does so on `tasks`, until `stopping`.
    #[must_use]
    pub fn new(
        history: History,
        accounts: Accounts,
        ports: Ports,
        has_presence: bool,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let inner = Inner {
            log: history.log().clone(),
            ports,
            history,
            accounts,
            has_presence,
            typing: typing::Typing::default(),
            people: presence::People::default(),
            sooner: Notify::new(),
        };
        let this = Self(Arc::new(inner));
        let (inner, until) = (Arc::downgrade(&this.0), stopping.clone());
        let expiring = move || expiry::run(inner.clone(), until.clone());
        tasks.spawn(upkeep::keep("the end of typing and presence", stopping, expiring));
        this
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.ports.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether other servers are to hear what a user does in a room.
    async fn has_others(&self, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
        if !self.0.history.is_local(user) {
            return Ok(false);
        }
        Ok(self.0.history.room(room).await?.is_some_and(|room| room.remote > 0))
    }

    async fn only_members(&self, room: &RoomId, user: &UserId) -> Result<(), EphemeralError> {
        match self.0.history.is_joined(room, user).await? {
            true => Ok(()),
            false => Err(EphemeralError::NotJoined),
        }
    }
}

#[cfg(test)]
mod tests;
