//! Why nothing could be looked for.

use crate::{account::AccountError, log::CommitError, store::StoreError};

/// Why nothing could be looked for.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The accounts could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The index could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The index of messages is being opened.
    #[error("The index of messages is not open yet")]
    NotReady,
    /// The token is none that a search has given.
    #[error("The token is not one of this server, or of another order")]
    BadToken,
    /// The index of messages is damaged.
    #[error("the index of messages is damaged")]
    Damaged,
    /// The index of messages failed.
    #[error("the index of messages failed: {0}")]
    Index(#[from] tantivy::TantivyError),
    /// The folder of the index of messages cannot be used.
    #[error("the folder of the index of messages cannot be used: {0}")]
    Folder(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
