//! Which members a client has been sent, so that it is not sent them with every message.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{
    account::Caller,
    limits::{LAZY_DEVICES_MAX, LAZY_MEMBERS_MAX},
    types::Position,
};

/// Members that go out with one answer, by room.
pub(super) type Sendings = Vec<(OwnedRoomId, Vec<(OwnedUserId, OwnedEventId)>)>;

/// Whose client, and on which of its connections (none for `/v3/sync`).
pub(super) type Channel<'a> = (&'a Caller, &'a str);

/// An answer: the position of its token, and what else the token says.
pub(super) type Answer = (Position, u64);

/// The member events sent on one connection, each with the answer that it was in.
type Sent = HashMap<(OwnedRoomId, OwnedUserId), (OwnedEventId, Answer)>;

/// A key of the cache: user, device, connection.
type Key = (OwnedUserId, OwnedDeviceId, String);

/// What was sent to devices, in memory only: a device of which nothing is known is sent more than it
/// needs.
pub(super) struct Lazy(Cache<Key, Arc<Mutex<Sent>>>);

impl Default for Lazy {
    fn default() -> Self {
        Self(Cache::new(LAZY_DEVICES_MAX))
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}

impl Lazy {
    /// The client goes on from `answer`: what was in others that it does not build on was lost. Nothing
    /// stands for a client that begins.
    pub(super) fn rewind(&self, channel: Channel<'_>, answer: Option<Answer>) {
        let key = key(channel);
        let Some((at, state)) = answer else { return drop(self.0.remove(&key)) };
        if let Some(sent) = self.0.get(&key) {
            sent.lock().retain(|_, (_, (position, of))| *position < at || (*position, *of) == (at, state));
        }
    }

    /// Whether the client has a member event: it was in an answer that the client builds on, up to the
    /// position to which it has the room.
    pub(super) fn has(
        &self,
        channel: Channel<'_>,
        room: &RoomId,
        (user, event): (&UserId, &OwnedEventId),
        upto: Position,
    ) -> bool {
        let Some(sent) = self.0.get(&key(channel)) else { return false };
        let sent = sent.lock();
        let known = sent.get(&(room.to_owned(), user.to_owned()));
        known.is_some_and(|(id, (at, _))| id == event && *at <= upto)
    }

    /// The client is told of a gap in a room, and keeps no member of it.
    pub(super) fn forget(&self, channel: Channel<'_>, room: &RoomId) {
        if let Some(sent) = self.0.get(&key(channel)) {
            sent.lock().retain(|(known, _), _| known != room);
        }
    }

    /// Notes what goes out in `answer`.
    pub(super) fn note(&self, channel: Channel<'_>, members: Sendings, answer: Answer) {
        let count: usize = members.iter().map(|(_, members)| members.len()).sum();
        if count == 0 {
            return;
        }
        let key = key(channel);
        let sent = match self.0.get(&key) {
            Some(sent) => sent,
            None => {
                let sent = Arc::new(Mutex::new(Sent::new()));
                self.0.insert(key, sent.clone());
                sent
            }
        };
        let mut sent = sent.lock();
        if sent.len() + count > LAZY_MEMBERS_MAX {
            sent.clear();
        }
        let all = members
            .into_iter()
            .flat_map(|(room, members)| members.into_iter().map(move |member| (room.clone(), member)));
        for (room, (user, event)) in all.take(LAZY_MEMBERS_MAX) {
            sent.insert((room, user), (event, answer));
        }
    }
}

fn key((caller, connection): Channel<'_>) -> Key {
    (caller.user_id.clone(), caller.device_id.clone(), connection.to_owned())
}
