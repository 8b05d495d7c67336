//! Why an identity server was of no help.

use http::StatusCode;

use crate::{log::CommitError, store::StoreError};

/// Why an identity server was of no help.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operator has not named it.
    #[error("this server does not ask that identity server")]
    NotTrusted,
    /// What the user said makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// It has refused.
    #[error("the identity server says: {message}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// With which code.
        errcode: String,
        /// What it says to people.
        message: String,
    },
    /// It was not reached, or is in trouble itself.
    #[error("the identity server cannot be asked: {0}")]
    Unreachable(String),
    /// Its answer makes no sense.
    #[error("the answer of the identity server makes no sense: {0}")]
    BadAnswer(&'static str),
    /// What it did could not be noted.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
