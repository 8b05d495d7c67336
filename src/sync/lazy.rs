//! Which members a client has been sent, so that it is not sent them with every message.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{filter::is_redundant, rooms::Scene};
use crate::{
    account::Caller,
    limits::{LAZY_DEVICES_MAX, LAZY_MEMBERS_MAX},
    types::Position,
};

/// The member events sent to one device, each with the token of the answer that it was in.
type Sent = HashMap<(OwnedRoomId, OwnedUserId), (OwnedEventId, Position)>;

/// What was sent to devices, in memory only: a device of which nothing is known is sent more than it
/// needs.
pub(super) struct Lazy(Cache<(OwnedUserId, OwnedDeviceId), Arc<Mutex<Sent>>>);

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
    /// Whether the client has a member event: it was in an answer whose token, or a later one, the
    /// client now presents. An answer that was lost is not counted on.
    pub(super) fn has(
        &self,
        scene: &Scene<'_>,
        room: &RoomId,
        (user, event): (&UserId, &OwnedEventId),
    ) -> bool {
        if is_redundant(&scene.request.filter.room) {
            return false;
        }
        let Some(sent) = self.0.get(&key(scene.caller)) else { return false };
        let sent = sent.lock();
        let known = sent.get(&(room.to_owned(), user.to_owned()));
        known.is_some_and(|(id, at)| id == event && *at <= scene.cut.from.log)
    }

    /// Notes what goes out in the answer whose token is `at`.
    pub(super) fn note(
        &self,
        caller: &Caller,
        room: &OwnedRoomId,
        members: &[(OwnedUserId, OwnedEventId)],
        at: Position,
    ) {
        if members.is_empty() {
            return;
        }
        let key = key(caller);
        let sent = match self.0.get(&key) {
            Some(sent) => sent,
            None => {
                let sent = Arc::new(Mutex::new(Sent::new()));
                self.0.insert(key, sent.clone());
                sent
            }
        };
        let mut sent = sent.lock();
        if sent.len() + members.len() > LAZY_MEMBERS_MAX {
            sent.clear();
        }
        for (user, event) in members.iter().take(LAZY_MEMBERS_MAX) {
            sent.insert((room.clone(), user.clone()), (event.clone(), at));
        }
    }
}

fn key(caller: &Caller) -> (OwnedUserId, OwnedDeviceId) {
    (caller.user_id.clone(), caller.device_id.clone())
}
