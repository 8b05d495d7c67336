//! Bodies on their way in: how many each sender may have under way, and how much memory they may fill in all.
//!
//! Whoever sends half a body and no more holds nothing that others need: a request takes its share of the server only
//! once its body is there, and until then it counts here.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;
use ruma::OwnedUserId;
use tokio::sync::Notify;

use super::{Failure, throttle::network};
use crate::limits::{
    BODIES_SPARE_PART, BODY_BYTES_FIRST, BODY_BYTES_MAX, BUSY_RETRY_AFTER, MEDIA_UPLOADS_EACH,
    OPEN_BODIES_BYTES, OPEN_BODIES_BYTES_EACH, OPEN_BODIES_EACH, OPEN_BODY_BYTES_MAX,
    OPEN_LONG_BODY_BYTES_MAX, SERVER_BODIES_BYTES, SERVER_BODIES_BYTES_EACH, SERVER_BODIES_EACH,
    SLIDING_BODY_BYTES_MAX, USER_BODIES_BYTES, USER_BODIES_BYTES_EACH, USER_BODIES_EACH,
};

/// The bodies that are on their way in.
pub struct Bodies {
    /// Of clients that have not said who they are.
    pub(super) open: Pool,
    /// Of users.
    pub(super) users: Pool,
    /// Of servers that have yet to prove their names.
    pub(super) servers: Pool,
    /// Files of users, which fill no memory.
    pub(super) uploads: Pool,
}

/// Whose bodies are counted together. Nobody can be told from anybody else behind a Unix socket whose proxy names no
/// client: there is no sender then, and only what all of them send is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    User(OwnedUserId),
    Address(IpAddr),
}

/// Bodies of one kind of sender.
pub(super) struct Pool {
    bounds: Bounds,
    held: Mutex<Held>,
    /// Told when a body is there, or given up.
    freed: Notify,
}

struct Bounds {
    /// Bodies of one sender.
    each: usize,
    /// Bytes of one sender's bodies.
    bytes_each: usize,
    /// Bytes of all bodies.
    bytes: usize,
}

#[derive(Default)]
struct Held {
    bodies: usize,
    bytes: usize,
    senders: HashMap<Sender, Place>,
}

#[derive(Default)]
struct Place {
    bodies: usize,
    bytes: usize,
}

/// Room for one body, as much as has come of it; free again when dropped.
pub(super) struct Room<'a> {
    pool: &'a Pool,
    sender: Option<Sender>,
    bytes: usize,
}

impl Bodies {
    /// Nobody sends anything yet.
    #[must_use]
    pub fn new() -> Self {
        let pool = |each, bytes_each, bytes| Pool {
            bounds: Bounds { each, bytes_each, bytes },
            held: Mutex::default(),
            freed: Notify::new(),
        };
        Self {
            open: pool(OPEN_BODIES_EACH, OPEN_BODIES_BYTES_EACH, OPEN_BODIES_BYTES),
            users: pool(USER_BODIES_EACH, USER_BODIES_BYTES_EACH, USER_BODIES_BYTES),
            servers: pool(SERVER_BODIES_EACH, SERVER_BODIES_BYTES_EACH, SERVER_BODIES_BYTES),
            uploads: pool(MEDIA_UPLOADS_EACH, 0, 0),
        }
    }

    /// How many bodies are under way of those who have not said or proved who they are.
    #[must_use]
    pub fn unproven(&self) -> usize {
        [&self.open, &self.servers].into_iter().map(|pool| pool.held.lock().bodies).sum()
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// Whoever is at `ip`.
    pub(super) fn at(ip: Option<IpAddr>) -> Option<Self> {
        ip.map(network).map(Self::Address)
    }
}

impl Pool {
    /// Room for a body of up to `bytes`, of which nothing has come yet.
    ///
    /// # Errors
    /// 429 when the sender has too much under way, 503 when all together have.
    pub(super) fn enter(&self, sender: Option<Sender>, bytes: usize) -> Result<Room<'_>, Failure> {
        let bytes = bytes.min(BODY_BYTES_FIRST);
        let spare = self.bounds.bytes / BODIES_SPARE_PART;
        let mut held = self.held.lock();
        if held.bytes.saturating_add(bytes) > self.bounds.bytes.saturating_add(spare) {
            return Err(Failure::busy(BUSY_RETRY_AFTER));
        }
        if let Some(sender) = &sender {
            let (bodies, filled) =
                held.senders.get(sender).map_or((0, 0), |place| (place.bodies, place.bytes));
            if bodies >= self.bounds.each || filled.saturating_add(bytes) > self.bounds.bytes_each {
                return Err(Failure::limit_exceeded(BUSY_RETRY_AFTER));
            }
            let place = held.senders.entry(sender.clone()).or_default();
            place.bodies += 1;
            place.bytes += bytes;
        }
        held.bodies += 1;
        held.bytes += bytes;
        Ok(Room { pool: self, sender, bytes })
    }

    /// Waits until there is room for a body of up to `bytes`.
    pub(super) async fn wait(&self, sender: Option<Sender>, bytes: usize) -> Room<'_> {
        loop {
            let mut freed = Box::pin(self.freed.notified());
            // What is freed from here on is heard of.
            freed.as_mut().enable();
            if let Ok(room) = self.enter(sender.clone(), bytes) {
                return room;
            }
            freed.await;
        }
    }
}

impl Room<'_> {
    /// How many bytes there is room for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has room for `bytes` in all.
    ///
    /// # Errors
    /// As for [`Pool::enter`].
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes.saturating_sub(self.bytes);
        let mut held = self.pool.held.lock();
        if held.bytes.saturating_add(more) > self.pool.bounds.bytes {
            return Err(Failure::busy(BUSY_RETRY_AFTER));
        }
        if let Some(place) = self.sender.as_ref().and_then(|sender| held.senders.get_mut(sender)) {
            if place.bytes.saturating_add(more) > self.pool.bounds.bytes_each {
                return Err(Failure::limit_exceeded(BUSY_RETRY_AFTER));
            }
            place.bytes += more;
        }
        held.bytes += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut held = self.pool.held.lock();
        held.bodies = held.bodies.saturating_sub(1);
        held.bytes = held.bytes.saturating_sub(self.bytes);
        if let Some(sender) = self.sender.take()
            && let Some(place) = held.senders.get_mut(&sender)
        {
            place.bodies = place.bodies.saturating_sub(1);
            place.bytes = place.bytes.saturating_sub(self.bytes);
            if place.bodies == 0 {
                held.senders.remove(&sender);
            }
        }
        drop(held);
        self.pool.freed.notify_waiters();
    }
}

/// Largest body, in bytes, of somebody who has not said who they are, at an endpoint by its path template.
pub(super) fn open_bytes_max(path: &str) -> usize {
    let has = |name: &str| path.split('/').any(|segment| segment == name);
    // Servers and keys by the hundred, invites by the dozen, and whatever user-interactive authentication repeats.
    let is_long =
        (has("key") && has("query")) || ["onbind", "login", "register", "account"].into_iter().any(has);
    if is_long { OPEN_LONG_BODY_BYTES_MAX } else { OPEN_BODY_BYTES_MAX }
}

/// Largest body, in bytes, of somebody who is known, at an endpoint by its path template.
pub(super) fn user_bytes_max(path: &str) -> usize {
    // Only sliding sync has a body; what is asked for there is kept while the request waits.
    if path.ends_with("/sync") { SLIDING_BODY_BYTES_MAX } else { BODY_BYTES_MAX }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Bodies, Room, Sender, open_bytes_max, user_bytes_max};
    use crate::limits::{
        BODY_BYTES_FIRST, BODY_BYTES_MAX, OPEN_BODIES_BYTES, OPEN_BODIES_BYTES_EACH, OPEN_BODIES_EACH,
        OPEN_BODY_BYTES_MAX, OPEN_LONG_BODY_BYTES_MAX, SLIDING_BODY_BYTES_MAX,
    };

    fn at(ip: &str) -> Option<Sender> {
        Sender::at(Some(ip.parse::<IpAddr>().unwrap()))
    }

    #[tokio::test]
    async fn bodies_are_counted_by_sender_and_in_all() {
        let bodies = Bodies::new();
        let enter = |ip: &str, bytes| bodies.open.enter(at(ip), bytes).map_err(|f| f.status().as_u16());
        let many: Vec<_> = (0..OPEN_BODIES_EACH).map(|_| enter("1.1.1.1", 1).unwrap()).collect();
        assert_eq!(enter("1.1.1.1", 1).err(), Some(429));
        let mut large = enter("2.2.2.2", OPEN_BODIES_BYTES_EACH).unwrap();
        assert_eq!(large.bytes(), BODY_BYTES_FIRST, "what is announced takes no room");
        let grow = |room: &mut Room<'_>, bytes| room.grow(bytes).err().map(|f| f.status().as_u16());
        assert_eq!(grow(&mut large, OPEN_BODIES_BYTES_EACH + 1), Some(429));
        assert_eq!(grow(&mut large, OPEN_BODIES_BYTES_EACH), None);
        assert_eq!(enter("2.2.2.2", 1).err(), Some(429));
        let mut nameless = bodies.open.enter(None, 1).unwrap();
        let left = OPEN_BODIES_BYTES - OPEN_BODIES_BYTES_EACH - many.len();
        assert_eq!(grow(&mut nameless, left), None);
        assert_eq!(grow(&mut nameless, left + 1), Some(503));
        drop(enter("3.3.3.3", usize::MAX).unwrap());
        drop(nameless);
        let mut waiting = Box::pin(bodies.open.wait(at("2.2.2.2"), 1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(large);
        drop(waiting.await);
        drop(many);
        assert!(bodies.open.held.lock().senders.is_empty(), "who sends nothing is forgotten");
        assert_eq!(bodies.open.held.lock().bytes, 0);
        assert_eq!(bodies.unproven(), 0);
    }

    #[test]
    fn what_is_long_may_be_longer() {
        for (path, expected) in [
            ("/_matrix/client/v3/refresh", OPEN_BODY_BYTES_MAX),
            ("/_matrix/client/v3/login", OPEN_LONG_BODY_BYTES_MAX),
            ("/_matrix/client/v3/register", OPEN_LONG_BODY_BYTES_MAX),
            ("/_matrix/client/v3/account/password", OPEN_LONG_BODY_BYTES_MAX),
            ("/_matrix/key/v2/query", OPEN_LONG_BODY_BYTES_MAX),
            ("/_matrix/federation/v1/3pid/onbind", OPEN_LONG_BODY_BYTES_MAX),
            ("/_matrix/oauth2/token", OPEN_BODY_BYTES_MAX),
        ] {
            assert_eq!(open_bytes_max(path), expected, "{path}");
        }
        for (path, expected) in [
            ("/_matrix/client/v4/sync", SLIDING_BODY_BYTES_MAX),
            ("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", SLIDING_BODY_BYTES_MAX),
            ("/_matrix/client/v3/room_keys/keys", BODY_BYTES_MAX),
        ] {
            assert_eq!(user_bytes_max(path), expected, "{path}");
        }
    }
}
