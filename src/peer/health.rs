//! Who does not answer at the moment, so that requests of users do not wait for the same dead server again.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};

use crate::limits::{PEER_DOWN_FIRST, PEER_DOWN_MAX, PEERS_DOWN_MAX};

#[derive(Clone, Copy)]
struct Down {
    failures: u32,
    until: Duration,
}

/// In memory only: after a start everybody is given a chance.
#[derive(Default)]
pub(super) struct Health(Mutex<HashMap<OwnedServerName, Down>>);

impl Health {
    pub(super) fn is_down(&self, server: &ServerName, now: Duration) -> bool {
        self.0.lock().get(server).is_some_and(|down| now < down.until)
    }

    pub(super) fn answered(&self, server: &ServerName) {
        self.0.lock().remove(server);
    }

    pub(super) fn failed(&self, server: &ServerName, now: Duration) {
        let mut all = self.0.lock();
        if all.len() >= PEERS_DOWN_MAX && !all.contains_key(server) {
            all.retain(|_, down| now < down.until);
            if all.len() >= PEERS_DOWN_MAX {
                return;
            }
        }
        let down = all.entry(server.to_owned()).or_insert(Down { failures: 0, until: now });
        // Several requests that fail together are one failure.
        if now >= down.until {
            let pause = PEER_DOWN_FIRST.saturating_mul(1 << down.failures.min(16)).min(PEER_DOWN_MAX);
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
        let (health, server) = (Health::default(), server_name!("b"));
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
