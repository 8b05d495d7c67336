//! Devices, end-to-end encryption keys, one-time keys, cross-signing, key backups, dehydrated devices
//! and to-device messages.
//!
//! Owns: the tables from `DeviceKeys` to `KeyCounts`, `RemoteDevices` and `StaleDevices`. May use: `types`,
//! `limits`, `upkeep`, `store`, `log`, `keys`, `peer`, `history`, `account`. Start reading at [`Devices`].
//!
//! Invariants: a one-time key is given out once, oldest first; a signature in the store has been
//! checked; a device goes with everything that is its own in one commit; whatever changes what
//! others see of a user's devices or keys writes `Fact::Devices` in the same commit; whoever signs keys of
//! another user has that fact in the own `Account` lane; what is kept of users of other servers answers only
//! while nothing of them can have been missed.

mod backup;
mod changes;
mod claim;
mod cross_signing;
mod dehydrated;
mod list;
mod object;
mod query;
mod receive;
mod remote;
mod remove;
mod rows;
mod send;
mod shown;
mod signatures;
mod told;
mod turns;
mod updates;
mod upload;

use std::{fmt, sync::Arc};

use ruma::{DeviceId, OwnedServerName, UserId};
use tokio::sync::Notify;

pub use backup::{BackupInfo, BackupKeys, BackupRange, BackupState};
pub use changes::{ListChanges, Span};
pub use claim::{ClaimedKeys, KeysByDevice, check_asked};
pub use cross_signing::{CrossSigningChange, CrossSigningKeys};
pub use dehydrated::{Dehydrated, NewDehydrated};
pub use query::QueriedKeys;
pub use receive::DirectToDevice;
pub use remote::Told;
pub use rows::KeyCounts;
pub use send::{Messages, Sending};
pub use signatures::{SignatureFailure, SignatureFailures, SignedKeys};
pub(crate) use told::TOLD;
pub use updates::{DeviceUpdate, ListUpdates, PublicCrossSigning};
pub use upload::KeyUpload;

use crate::{
    log::{Commit, CommitError, Log},
    store::{Expect, Key, StoreError},
    types::{Fact, Lane, Ports},
};

/// Devices and their keys. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    log: Log,
    ports: Ports,
    server_name: OwnedServerName,
    turns: Arc<turns::Turns>,
    /// Told when a list of a user of another server has become stale.
    stale: Arc<Notify>,
    asking: Arc<remote::Asking>,
    shown: Arc<shown::ShownKeys>,
    doubts: Arc<remote::Doubts>,
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Devices")
    }
}

/// Why a request about devices or keys is refused.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device, key or backup.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// What the client sent is not what the specification asks for.
    #[error("{0}")]
    BadJson(String),
    /// A parameter has a value that it must not have.
    #[error("{0}")]
    Invalid(String),
    /// Something that is needed was not sent.
    #[error("{0}")]
    Missing(&'static str),
    /// A signature is absent or wrong.
    #[error("{0}")]
    InvalidSignature(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// What was sent is too large.
    #[error("too large")]
    TooLarge,
    /// Keys can be written to the current backup only.
    #[error("the current backup version is {current}")]
    WrongBackupVersion {
        /// The current version.
        current: String,
    },
    /// Others kept changing the same rows.
    #[error("too many requests at once about the same device")]
    Contended,
    /// The log did not take the commit.
    #[error(transparent)]
    Commit(CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of an attempt to commit.
enum Attempt {
    /// It is durable.
    Done,
    /// Somebody was faster: load and judge again.
    Again,
}

impl Devices {
    /// The devices of the users of `server_name`.
    #[must_use]
    pub fn new(log: Log, ports: Ports, server_name: OwnedServerName) -> Self {
        let (turns, stale, asking) = (Arc::default(), Arc::default(), Arc::default());
        Self { log, ports, server_name, turns, stale, asking, shown: Arc::default(), doubts: Arc::default() }
    }

    fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name
    }

    async fn attempt(&self, commit: Commit) -> Result<Attempt, DeviceError> {
        match self.log.commit(commit).await {
            Ok(_) => Ok(Attempt::Done),
            Err(CommitError::Conflict(_)) => Ok(Attempt::Again),
            Err(error) => Err(DeviceError::Commit(error)),
        }
    }

    /// Has `commit` refused if the row changes after it was read as `found`.
    fn guard(commit: &mut Commit, key: Key, found: Option<Vec<u8>>) {
        commit.expect_raw(match found {
            Some(value) => Expect::Equals(key, value),
            None => Expect::Absent(key),
        });
    }

    fn tell_counts(commit: &mut Commit, user: &UserId, device: &DeviceId) {
        commit.fact(Lane::Inbox(user.to_owned(), device.to_owned()), Fact::KeyCounts);
    }
}

#[cfg(test)]
mod tests;
