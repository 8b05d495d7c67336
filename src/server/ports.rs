//! The real clock and the operating system's randomness.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{TryRngCore, rngs::OsRng};

use crate::types::{Clock, Ports, Rng};

struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct RealRng;

impl Rng for RealRng {
    fn fill(&self, bytes: &mut [u8]) {
        OsRng.try_fill_bytes(bytes).expect("the operating system gives randomness");
    }
}

/// Time and randomness as they are.
#[must_use]
pub fn real_ports() -> Ports {
    Ports { clock: Arc::new(RealClock::new()), rng: Arc::new(RealRng) }
}
