//! Renders pages of the log for clients: `GET /sync` and sliding sync.
//!
//! Owns: how a page looks to a client; stored only what a client of sliding sync has been sent. May use: everything down from `push`, but not
//! `room`. Start reading at [`Sync::sync`]. Invariants: a token names what its client has, so the same
//! token gives the same answer or a longer one; events that a page skips are covered by `limited`; a
//! to-device message is deleted when its token comes back and not before.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#syncing>

mod fields;
mod filter;
mod lazy;
mod person;
mod pieces;
mod profiles;
mod relation_filter;
mod request;
mod response;
mod rooms;
mod sections;
mod sliding;
mod state;
mod sticky;
mod summary;
mod timeline;
mod unread;

use std::{sync::Arc, time::Duration};

use ruma::presence::PresenceState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use filter::{passes, wants};
pub use profiles::ProfileFields;
pub use relation_filter::{RelationFilter, TooManyRelations};
pub use request::{StateDialect, SyncRequest};
pub use response::SyncResponse;
pub use sliding::{Shape as SlidingShape, SlidingBody, SlidingRequest, SlidingResponse};

use crate::{
    account::{AccountError, Accounts, Caller},
    device::Devices,
    ephemeral::{Ephemeral, EphemeralError, Said},
    history::History,
    limits::{SYNC_TIMELINE_DEFAULT, SYNC_TIMELINE_MAX, SYNC_WAIT_MAX, TO_DEVICE_PAGE_MAX},
    log::{CommitError, Log, Page, PageLimits},
    push::{Push, PushError},
    store::StoreError,
    types::{Cursor, Reader},
};

/// Why a client gets no page.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The token is not one of this server, or from its future.
    #[error("The `since` token is not one of this server")]
    BadToken,
    /// The position is not one of this connection, or no longer.
    #[error("The position is not one of this connection; begin without one")]
    UnknownPos,
    /// The request asks for what no client may.
    #[error("{0}")]
    Invalid(&'static str),
    /// Unread messages could not be counted.
    #[error(transparent)]
    Push(#[from] PushError),
    /// An account's rows could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The log did not take what was ephemeral.
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    /// The log did not take an acknowledgement.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SyncError {
    /// Whether something that is stored is damaged: asking again does not help, and what else there is need not wait.
    fn is_damage(&self) -> bool {
        let store = match self {
            Self::Store(error)
            | Self::Push(PushError::Store(error) | PushError::Account(AccountError::Store(error)))
            | Self::Account(AccountError::Store(error)) => error,
            _ => return false,
        };
        matches!(store, StoreError::Corrupt(_))
    }
}

/// Renders pages for clients. Cheap to clone.
#[derive(Clone)]
pub struct Sync(Arc<Inner>);

/// What the service holds.
pub struct Inner {
    log: Log,
    history: History,
    accounts: Accounts,
    devices: Devices,
    push: Push,
    ephemeral: Ephemeral,
    lazy: lazy::Lazy,
    sliding: sliding::Memory,
}

impl std::ops::Deref for Sync {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Sync {
    /// Renders what the given services know.
    #[must_use]
    pub fn new(
        history: History,
        accounts: Accounts,
        devices: Devices,
        push: Push,
        ephemeral: Ephemeral,
    ) -> Self {
        let (log, lazy) = (history.log().clone(), lazy::Lazy::default());
        let sliding = sliding::Memory::default();
        Self(Arc::new(Inner { log, history, accounts, devices, push, ephemeral, lazy, sliding }))
    }

    /// What `caller` missed since its token; waits for something if there is nothing yet.
    ///
    /// # Errors
    /// When the token is not one of this server, the caller is locked or logged out while it waits, or the store fails.
    pub async fn sync(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        stopping: &CancellationToken,
    ) -> Result<SyncResponse, SyncError> {
        let reader = Reader::Device(caller.user_id.clone(), caller.device_id.clone());
        let since = request.since.unwrap_or_default();
        if since.log > self.log.head() {
            return Err(SyncError::BadToken);
        }
        if request.since.is_some() && !request.keeps_inbox {
            self.log.ack(&reader, since).await?;
        }
        let wait = request.timeout.min(SYNC_WAIT_MAX);
        self.note_presence(caller, request.set_presence.as_ref(), wait).await?;
        self.lazy.rewind((caller, ""), request.since.map(|since| (since.log, 0)));
        let deadline = Instant::now() + wait;
        let mut from = since;
        loop {
            // In a box, which is gone while the client waits.
            let (seen, response) = Box::pin(self.look(caller, request, (&reader, from))).await?;
            if !response.is_empty() || request.answers_at_once() || Instant::now() >= deadline {
                return Ok(response);
            }
            tokio::select! {
                waited = self.log.wait(&reader, seen) => waited?,
                () = tokio::time::sleep_until(deadline) => return Ok(response),
                () = stopping.cancelled() => return Ok(response),
            }
            self.accounts.confirm(caller).await?;
            // What was rendered empty need not be looked at again.
            from = seen;
        }
    }

    /// What there is for a reader after `from`, and where that ends.
    async fn look(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        (reader, from): (&Reader, Cursor),
    ) -> Result<(Cursor, SyncResponse), SyncError> {
        let limits = PageLimits {
            append: timeline_limit(request),
            queue: TO_DEVICE_PAGE_MAX,
            before_opening: true,
            backlog: usize::MAX,
        };
        let page = self.log.page(reader, from, &limits).await?;
        let seen = page.to;
        Ok((seen, self.render(caller, request, page).await?))
    }

    async fn render(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        page: Page,
    ) -> Result<SyncResponse, SyncError> {
        let mut response = SyncResponse::new(page.to);
        let cut = person::Cut::of(page);
        let moved = self.add_rooms(caller, request, &cut, &mut response).await?;
        self.add_person(caller, request, (&cut, &moved), &mut response).await?;
        Ok(response)
    }

    async fn note_presence(
        &self,
        caller: &Caller,
        set_presence: Option<&PresenceState>,
        wait: Duration,
    ) -> Result<(), SyncError> {
        let said = match set_presence {
            Some(PresenceState::Offline) => Said::Offline,
            Some(PresenceState::Unavailable) => Said::Unavailable,
            _ => Said::Online,
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Ok(self.ephemeral.note_sync(&caller.user_id, &caller.device_id, said, wait_ms).await?)
    }
}

/// How many timeline events of a room a page may carry.
fn timeline_limit(request: &SyncRequest) -> usize {
    let asked = request.filter.room.timeline.limit.and_then(|limit| usize::try_from(u64::from(limit)).ok());
    asked.unwrap_or(SYNC_TIMELINE_DEFAULT).clamp(1, SYNC_TIMELINE_MAX)
}

/// The text form of the boundary after a position, for `prev_batch`.
fn boundary(after: crate::types::Position) -> String {
    format!("t{after}")
}

/// Whether a cursor is where an initial sync begins.
fn is_initial(from: Cursor) -> bool {
    from == Cursor::default()
}

#[cfg(test)]
mod tests;
