//! How much the server works on at the same time.

use tokio::sync::Semaphore;

use super::Failure;
use crate::{
    config::Config,
    limits::{BUSY_RETRY_AFTER, MEDIA_UPLOADS_MAX},
};

/// How much is worked on at the same time. Long polls wait for news, not for the server, so they have a
/// budget of their own.
pub struct Budget {
    requests: Pool,
    polls: Pool,
    peers: Pool,
    uploads: Pool,
}

struct Pool {
    size: usize,
    free: Semaphore,
}

/// Taken out of the budget until dropped.
pub type Share<'a> = tokio::sync::SemaphorePermit<'a>;

impl Budget {
    /// For so many requests and so many long polls.
    #[must_use]
    pub fn new(requests: usize, polls: usize) -> Self {
        let pool = |size: usize| {
            let size = size.min(Semaphore::MAX_PERMITS);
            Pool { size, free: Semaphore::new(size) }
        };
        Self {
            requests: pool(requests),
            polls: pool(polls),
            peers: pool(requests),
            uploads: pool(MEDIA_UPLOADS_MAX),
        }
    }

    /// As the configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let limits = &config.limits;
        let peers = Self::new(config.federation.concurrent_requests, 0).requests;
        Self { peers, ..Self::new(limits.concurrent_requests, limits.long_polls) }
    }

    /// A share for one request of another server: users must not wait for strangers.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub fn peer(&self) -> Result<Share<'_>, Failure> {
        self.peers.take()
    }

    /// A share for one request.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub fn request(&self) -> Result<Share<'_>, Failure> {
        self.requests.take()
    }

    /// A share for one file on its way in: it takes its time, and is no reason for others to wait.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub fn upload(&self) -> Result<Share<'_>, Failure> {
        self.uploads.take()
    }

    /// A share for one long poll.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub fn poll(&self) -> Result<Share<'_>, Failure> {
        self.polls.take()
    }

    /// How many requests and how many long polls are under way.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.requests.used(), self.polls.used())
    }
}

impl Pool {
    fn take(&self) -> Result<Share<'_>, Failure> {
        self.free.try_acquire().map_err(|_| Failure::busy(BUSY_RETRY_AFTER))
    }

    fn used(&self) -> usize {
        self.size.saturating_sub(self.free.available_permits())
    }
}
