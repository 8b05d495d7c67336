//! Time and randomness as parameters, so that a test decides both.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngCore, SeedableRng, rngs::StdRng};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Gives random bytes fit for secrets.
pub trait Rng: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and randomness, handed to every service.
#[derive(Clone)]
pub struct Ports {
    /// Tells the time.
    pub clock: std::sync::Arc<dyn Clock>,
    /// Gives random bytes.
    pub rng: std::sync::Arc<dyn Rng>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

/// `length` random characters out of `A-Z a-z 0-9`.
#[must_use]
pub fn random_string(rng: &dyn Rng, length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        rng.fill(&mut bytes);
        // Values from 248 on would make some characters likelier than others.
        let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(fair.take(length - text.len()).map(char::from));
    }
    text
}

/// A clock that moves only when told.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Sets the clock, also back.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }
}

/// The clock of a test's runtime, which stands still while anything can be done.
#[cfg(test)]
#[derive(Debug)]
pub struct PausedClock {
    begun_ms: u64,
    begun: tokio::time::Instant,
}

#[cfg(test)]
impl PausedClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: u64) -> Self {
        Self { begun_ms: now_ms, begun: tokio::time::Instant::now() }
    }
}

#[cfg(test)]
impl Clock for PausedClock {
    fn now_ms(&self) -> u64 {
        self.begun_ms + u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Repeatable randomness from a seed, for tests.
#[derive(Debug)]
pub struct SeededRng(Mutex<StdRng>);

impl SeededRng {
    /// Always the same bytes for the same `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}
