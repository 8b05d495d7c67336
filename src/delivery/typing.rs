//! Whom servers have been told to be typing. A typing list names everyone; servers are told of each
//! user who begins or ends.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};

/// The users who type as far as each server knows, by room. Only rooms in which somebody types are kept.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(OwnedServerName, OwnedRoomId), BTreeSet<OwnedUserId>>>);

impl Told {
    /// The server is about to be told that `now` are typing; what it was told before.
    pub(super) fn told(
        &self,
        server: &OwnedServerName,
        room: &OwnedRoomId,
        now: &BTreeSet<OwnedUserId>,
    ) -> BTreeSet<OwnedUserId> {
        let key = (server.clone(), room.clone());
        let mut told = self.0.lock();
        match now.is_empty() {
            true => told.remove(&key),
            false => told.insert(key, now.clone()),
        }
        .unwrap_or_default()
    }
}
