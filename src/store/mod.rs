//! Ordered tables, typed keys and atomic batches; the engines `memory`, `sled` and `postgres`
//! behind one trait, [`Store`].
//!
//! Owns: what is on disk. May use: `types`, `limits`. Start reading at [`Store`], then [`Batch`];
//! callers above the log read through [`Db`] and write through `log::Commit`.
//!
//! Invariants: a group that was committed is durable and whole; positions are assigned in the order
//! of the group, only here, and never reused; an expectation is judged at the moment of writing,
//! against the store *and* what the same group wrote before; rows above what the log has published
//! may be seen by a scan and must be ignored by the reader.

mod batch;
#[cfg(test)]
mod conformance;
mod db;
mod digest;
pub mod dump;
pub mod embedded;
mod key;
pub mod memory;
pub mod postgres;
mod resolve;
pub mod table;

use std::{future::Future, pin::Pin};

pub use batch::{Batch, Expect, Outcome, Stamped, Write};
pub use db::Db;
pub use digest::Digest;
pub use key::{Field, Key, KeyFields, KeyReader, KeyWriter};
pub use memory::Memory;
pub use resolve::{Needed, Resolved, needed, resolve};

use crate::types::Position;

/// The version of what is stored; a store of a newer version is refused.
pub const SCHEMA_VERSION: u32 = 1;

/// A boxed future, so that engines can be used as `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One row: key and value.
pub type Row = (Key, Vec<u8>);

/// A bounded range of rows to read, in key order or against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The first key of the range.
    pub from: Key,
    /// The first key beyond the range.
    pub to: Key,
    /// From the end of the range towards its beginning.
    pub reverse: bool,
    /// At most so many rows.
    pub limit: usize,
}

/// What a group of batches came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// One outcome for each batch, in order.
    pub outcomes: Vec<Outcome>,
    /// The highest position assigned so far; everything at or below it may be published.
    pub head: Position,
}

/// Ordered key-value storage with atomic, durable groups of batches.
///
/// Asynchronous and batch-first: a caller that needs ten things asks once.
pub trait Store: Send + Sync + 'static {
    /// The values of `keys`, in order.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>>;

    /// The rows of each of `scans`, in order.
    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>>;

    /// Judges and writes `group`, in order. When it returns `Ok`, a power cut cannot undo any batch
    /// whose outcome is `Done`; a batch that was `Refused` left nothing. One call at a time.
    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Takes `count` positions that no row will carry (for facts that live in memory) and gives the
    /// first of them. They are not reused after a crash. Never runs beside `commit`.
    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>>;

    /// The highest position that was ever assigned.
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>>;

    /// Whether this process is the only one that writes, so that caches of rows can be trusted.
    fn is_exclusive(&self) -> bool;

    /// Has the bytes of what was removed until now go from the disk, in the background; an engine that cannot do that, or
    /// whose operators have other means, does nothing.
    fn scrub(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes everything durable and stops background work. Nothing may be called afterwards.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed: the disk is full, the connection is gone, …
    #[error("the storage engine failed: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is damaged; the text says what and where.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The folder or database is not one that this version can open; the text says why.
    #[error("the store cannot be opened: {0}")]
    Unusable(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same may succeed later: what is damaged stays so.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Closed)
    }

    /// Wraps an engine's own error.
    pub fn engine(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Engine(error.into())
    }
}
