//! Who was let into which call, so that those are put out of it who are not in its room any more.
//!
//! The SFU knows nothing of rooms, and whoever is connected stays so. What is here is in memory: after a restart those who were
//! let in before it stay until they leave. A seat is kept until its tokens are over, also those that the SFU gives to
//! whoever is connected: with one of them somebody could come back.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};

use super::{Rtc, RtcError, Seat};
use crate::limits::{RTC_SEATS_MAX, RTC_SEATS_PER_USER_MAX, SFU_TOKEN_SECONDS};

/// By call and member.
#[derive(Default)]
pub(super) struct Seats {
    calls: BTreeMap<String, BTreeMap<String, Held>>,
    count: usize,
    /// How many each user has.
    by_user: BTreeMap<OwnedUserId, usize>,
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
        let user = held.seat.user_id.clone();
        if members.insert(identity.to_owned(), held).is_none() {
            self.count += 1;
            *self.by_user.entry(user).or_default() += 1;
        }
    }

    /// Whether one more would be too many.
    fn is_full_for(&self, call: &str, identity: &str, user: &UserId) -> bool {
        let is_held = self.calls.get(call).is_some_and(|members| members.contains_key(identity));
        let own = self.by_user.get(user).copied().unwrap_or_default();
        !is_held && (self.count >= RTC_SEATS_MAX || own >= RTC_SEATS_PER_USER_MAX)
    }

    fn forget(&mut self, call: &str, identity: &str) {
        let Some(members) = self.calls.get_mut(call) else { return };
        if let Some(held) = members.remove(identity) {
            self.count -= 1;
            let user = &held.seat.user_id;
            match self.by_user.get_mut(user) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(self.by_user.remove(user)),
            }
        }
        if members.is_empty() {
            self.calls.remove(call);
        }
    }
}

impl Rtc {
    /// Notes that `seat` is let into `call` under the name `identity`.
    ///
    /// # Errors
    /// When more are let in than can be looked after.
    pub(super) fn hold(&self, call: &str, identity: &str, seat: &Seat) -> Result<(), RtcError> {
        let mut seats = self.0.seats.lock();
        if seats.is_full_for(call, identity, &seat.user_id) {
            return Err(RtcError::TooMany);
        }
        seats.hold(call, identity, Held { seat: seat.clone(), until_ms: self.token_end_ms() });
        drop(seats);
        self.0.sooner.notify_one();
        Ok(())
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

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id};

    use super::{Held, Seats};
    use crate::{
        limits::RTC_SEATS_PER_USER_MAX,
        rtc::{Member, Seat},
    };

    #[test]
    fn nobody_takes_the_seats_of_others() {
        let mut seats = Seats::default();
        let (alice, bob) = (owned_user_id!("@alice:a.org"), owned_user_id!("@bob:a.org"));
        let member = Member { id: String::from("m"), device_id: None };
        let room_id = owned_room_id!("!r:a.org");
        let seat = Seat { user_id: alice.clone(), room_id, slot_id: String::from("s"), member };
        for number in 0..RTC_SEATS_PER_USER_MAX {
            assert!(!seats.is_full_for("call", &number.to_string(), &alice));
            seats.hold("call", &number.to_string(), Held { seat: seat.clone(), until_ms: 0 });
        }
        assert!(seats.is_full_for("call", "one more", &alice));
        assert!(!seats.is_full_for("call", "0", &alice), "it is held already");
        assert!(!seats.is_full_for("call", "one more", &bob));
        seats.forget("call", "0");
        assert!(!seats.is_full_for("call", "one more", &alice));
        (1..RTC_SEATS_PER_USER_MAX).for_each(|number| seats.forget("call", &number.to_string()));
        assert!(seats.is_empty() && seats.by_user.is_empty() && seats.count == 0);
    }
}
