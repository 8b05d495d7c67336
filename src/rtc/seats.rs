//! Who was let into which call, so that those are put out of it who are not in its room any more.
//!
//! The SFU knows nothing of rooms, and whoever is connected stays so. What is here is in memory: after a restart those who were
//! let in before it stay until they leave. A seat is kept until its tokens are over, also those that the SFU gives to
//! whoever is connected: with one of them somebody could come back.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use std::collections::{BTreeMap, BTreeSet};

use super::{Rtc, RtcError, Seat};
use crate::limits::{RTC_SEATS_MAX, SFU_TOKEN_SECONDS};

/// By call and member.
#[derive(Default)]
pub(super) struct Seats {
    calls: BTreeMap<String, BTreeMap<String, Held>>,
    count: usize,
}

/// One that was let in.
#[derive(Clone)]
struct Held {
    seat: Seat,
    /// When no token lets them in any more, in milliseconds since the epoch.
    until_ms: u64,
}

impl Seats {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &String> {
        self.calls.keys()
    }

    fn hold(&mut self, call: &str, identity: &str, held: Held) {
        let members = self.calls.entry(call.to_owned()).or_default();
        if members.insert(identity.to_owned(), held).is_none() {
            self.count += 1;
        }
    }

    fn forget(&mut self, call: &str, identity: &str) {
        let Some(members) = self.calls.get_mut(call) else { return };
        if members.remove(identity).is_some() {
            self.count -= 1;
        }
        if members.is_empty() {
            self.calls.remove(call);
        }
    }
}

impl Rtc {
    /// Notes that `seat` was let into `call` under the name `identity`.
    pub(super) fn hold(&self, call: &str, identity: &str, seat: &Seat) {
        let mut seats = self.0.seats.lock();
        if seats.count >= RTC_SEATS_MAX {
            tracing::warn!(
                "more are in calls than are looked after: those who leave a room stay in its calls"
            );
            return;
        }
        seats.hold(call, identity, Held { seat: seat.clone(), until_ms: self.token_end_ms() });
        drop(seats);
        self.0.sooner.notify_one();
    }

    /// Puts out of `call` who is `there` and not in its room any more.
    pub(super) async fn clear(&self, call: &str, there: &BTreeSet<String>) -> Result<(), RtcError> {
        let held = self.0.seats.lock().calls.get(call).cloned().unwrap_or_default();
        for (identity, held) in held {
            if !there.contains(&identity) {
                if held.until_ms <= self.0.ports.clock.now_ms() {
                    self.0.seats.lock().forget(call, &identity);
                }
                continue;
            }
            match self.check_joined(&held.seat).await {
                Ok(()) => {
                    let held = Held { until_ms: self.token_end_ms(), ..held };
                    self.0.seats.lock().hold(call, &identity, held);
                }
                Err(RtcError::NotJoined) => self.0.sfu.remove(call, &identity).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn token_end_ms(&self) -> u64 {
        self.0.ports.clock.now_ms().saturating_add(SFU_TOKEN_SECONDS.saturating_mul(1_000))
    }
}
