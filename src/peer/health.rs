//! Whom not to ask at the moment, so that nobody waits for the same dead server again and again.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};

use crate::limits::PEERS_DOWN_MAX;

#[derive(Clone, Copy)]
struct Down {
    failures: u32,
    /// When it was asked last.
    asked: Duration,
    until: Duration,
}

/// In memory only: after a start everybody is given a chance.
pub(super) struct Health {
    first: Duration,
    longest: Duration,
    servers: Mutex<HashMap<OwnedServerName, Down>>,
}

impl Health {
    /// Pauses of `first`, then twice as long each time, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, servers: Mutex::default() }
    }

    pub(super) fn is_down(&self, server: &ServerName, now: Duration) -> bool {
        self.servers.lock().get(server).is_some_and(|down| now < down.until)
    }

    /// As [`Self::is_down`], for somebody who has reason to hope: no pause is longer than the first.
    pub(super) fn is_down_still(&self, server: &ServerName, now: Duration) -> bool {
        let all = self.servers.lock();
        all.get(server).is_some_and(|down| now < down.until.min(down.asked + self.first))
    }

    pub(super) fn answered(&self, server: &ServerName) {
        self.servers.lock().remove(server);
    }

    pub(super) fn failed(&self, server: &ServerName, now: Duration) {
        let mut all = self.servers.lock();
        if all.len() >= PEERS_DOWN_MAX && !all.contains_key(server) {
            all.retain(|_, down| now < down.until);
            if all.len() >= PEERS_DOWN_MAX {
                return;
            }
        }
        let down = all.entry(server.to_owned()).or_insert(Down { failures: 0, asked: now, until: now });
        down.asked = now;
        // Several requests that fail together are one failure.
        if now >= down.until {
            let pause = self.first.saturating_mul(1 << down.failures.min(16)).min(self.longest);
            down.failures += 1;
            down.until = now + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::server_name;

    use super::Health;
    use crate::limits::{PEER_DOWN_FIRST, PEER_DOWN_MAX};

    #[test]
    fn pauses_double_and_end_with_an_answer() {
        let (health, server) = (Health::new(PEER_DOWN_FIRST, PEER_DOWN_MAX), server_name!("b"));
        let mut now = Duration::from_secs(5);
        let mut pause = PEER_DOWN_FIRST;
        for _ in 0..20 {
            health.failed(server, now);
            health.failed(server, now);
            assert!(health.is_down(server, now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(!health.is_down(server, now));
            pause = (pause * 2).min(PEER_DOWN_MAX);
        }
        health.failed(server, now);
        health.answered(server);
        assert!(!health.is_down(server, now));
    }
}
