//! What can go wrong with files.

use std::time::Duration;

use crate::{log::CommitError, store::StoreError};

/// Why a file was not taken or is not given.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// There is no such file, or it may not be seen.
    #[error("there is no such file")]
    NotFound,
    /// The address has been given out, and nothing has been uploaded to it.
    #[error("the file has not been uploaded yet")]
    NotYetUploaded,
    /// There is a file already.
    #[error("there is a file at this address already")]
    CannotOverwrite,
    /// The file, or the image for a thumbnail, is larger than allowed.
    #[error("the file is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// The file of another server is larger than allowed.
    #[error("the other server's file is larger than the {0} bytes that are allowed")]
    RemoteTooLarge(u64),
    /// The image has more pixels than are looked at.
    #[error("the image is too large for a thumbnail")]
    TooManyPixels,
    /// The image of another server has more pixels than are looked at.
    #[error("the other server's image is too large for a thumbnail")]
    RemoteTooManyPixels,
    /// The user may not.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// Too many at once.
    #[error("too much at once")]
    TooMany(Duration),
    /// What was to be uploaded did not arrive.
    #[error("the file did not arrive: {0}")]
    Broken(String),
    /// No thumbnail can be made of such a file.
    #[error("no thumbnail can be made of this file: {0}")]
    NoThumbnail(String),
    /// Another server, or a page of the web, did not give what was asked for.
    #[error("it cannot be had from there: {0}")]
    Unreachable(String),
    /// The bytes are not the ones that were kept.
    #[error("the file is damaged")]
    Damaged,
    /// The configuration names no place for files that can be used.
    #[error("`media.url` cannot be used: {0}")]
    Place(String),
    /// The bytes could not be written or read.
    #[error("the files cannot be reached: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log took no commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MediaError {
    /// Wraps the error of a disk or an object store.
    pub(super) fn storage(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Storage(error.into())
    }
}

impl From<std::io::Error> for MediaError {
    fn from(error: std::io::Error) -> Self {
        Self::storage(error)
    }
}

impl From<object_store::Error> for MediaError {
    fn from(error: object_store::Error) -> Self {
        Self::storage(error)
    }
}
