//! What can go wrong with calls.

use crate::{log::CommitError, room::DelayedError, store::StoreError};

/// Why somebody is not let into a call, or their leave is not looked after.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// They are not in the room, or there is none: which of the two is not told.
    #[error("You are not in the room")]
    NotJoined,
    /// The ids make no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is no such delayed event of this user in this room.
    #[error("There is no such delayed event")]
    NotDelayed,
    /// Its delay is shorter than what can be kept.
    #[error("The delay is too short to be delegated")]
    TooShort,
    /// They have been let into very many calls lately, or very many others have.
    #[error("Too many calls were joined lately")]
    TooMany,
    /// The SFU cannot be reached, or does not do what it is asked. The text is for the log.
    #[error("The LiveKit server cannot be reached")]
    Sfu(String),
    /// What it is said to have said was not said by it.
    #[error("The webhook does not come from the LiveKit server")]
    NotBySfu,
    /// The delayed event cannot be looked at.
    #[error(transparent)]
    Delayed(#[from] DelayedError),
    /// Nothing was written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
