//! What users have reported: events, rooms and other users, for those who run the server to look at.
//!
//! Owns: the tables `Report` and `ReportEvidence`. May use: `types`, `limits`, `store`, `log`, `history`, `account`. Start reading at
//! [`Reports`]. Invariants: whoever reports learns nothing that they could not see anyway: not whether there is such
//! an event, room or user; what a reported event said is kept until the report is dealt with, 90 days at most, whoever
//! takes it back meanwhile.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

mod make;
mod read;
mod rows;

pub use read::Wanted;
pub use rows::{Report, Subject};

use std::sync::Arc;

use crate::{
    account::{AccountError, Accounts},
    history::History,
    log::CommitError,
    store::StoreError,
    types::Ports,
};

/// Takes reports and tells of them. Cheap to clone.
#[derive(Clone)]
pub struct Reports(Arc<Inner>);

struct Inner {
    history: History,
    accounts: Accounts,
    ports: Ports,
}

/// Why something could not be reported.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no such event, or the user may not see it.
    #[error("There is no such event in a room that you are in")]
    NotFound,
    /// The reason is too long.
    #[error("The reason is too long")]
    TooLong,
    /// The accounts could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The report could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reports {
    /// Reports are kept in the log of `history`.
    #[must_use]
    pub fn new(history: History, accounts: Accounts, ports: Ports) -> Self {
        Self(Arc::new(Inner { history, accounts, ports }))
    }
}
