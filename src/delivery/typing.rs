//! Whom servers have been told to be typing. A typing list names everyone; servers are told of each
//! user who begins or ends, and now and then of those who type on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};

use crate::limits::TYPING_TOLD_EVERY_MS;

/// The users who type as far as each server knows, by room, and when it was told so last. Only rooms in which
/// somebody types are kept.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(OwnedServerName, OwnedRoomId), BTreeMap<OwnedUserId, u64>>>);

/// Whether a server may be told again. That it is time is said by a fact, which is written before the server has the last
/// one: by the whole time every other fact would come too early.
fn is_due(told_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(told_ms) >= TYPING_TOLD_EVERY_MS / 2
}

impl Told {
    /// What the server is to be told of a room in which `typing` are.
    pub(super) fn news(
        &self,
        server: &OwnedServerName,
        (room, typing): (&OwnedRoomId, &BTreeSet<OwnedUserId>),
        now_ms: u64,
    ) -> Vec<(OwnedUserId, bool)> {
        let key = (server.clone(), room.clone());
        let told = self.0.lock();
        let told = told.get(&key);
        let told_of = |user: &OwnedUserId| told.and_then(|told| told.get(user));
        let began = typing.iter().filter(|user| told_of(user).is_none_or(|at| is_due(*at, now_ms)));
        let ended = told.into_iter().flat_map(BTreeMap::keys).filter(|user| !typing.contains(*user));
        began.map(|user| (user.clone(), true)).chain(ended.map(|user| (user.clone(), false))).collect()
    }

    /// The server has been told what there was to tell.
    pub(super) fn told(
        &self,
        server: &OwnedServerName,
        (room, typing): (OwnedRoomId, BTreeSet<OwnedUserId>),
        now_ms: u64,
    ) {
        let mut all = self.0.lock();
        let key = (server.clone(), room);
        if typing.is_empty() {
            all.remove(&key);
            return;
        }
        let told = all.entry(key).or_default();
        told.retain(|user, _| typing.contains(user));
        for user in typing {
            let at = told.entry(user).or_insert(now_ms);
            if is_due(*at, now_ms) {
                *at = now_ms;
            }
        }
    }
}
