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

    /// The server has been told of those of `typing` who are in `news`; of the others it knows.
    pub(super) fn told(
        &self,
        server: &OwnedServerName,
        (room, typing, news): (OwnedRoomId, BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>),
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
        told.extend(news.into_iter().filter(|user| typing.contains(user)).map(|user| (user, now_ms)));
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_server_name, owned_user_id};

    use super::*;

    #[test]
    fn a_server_knows_what_it_was_told_and_when() {
        let (told, server, room) = (Told::default(), owned_server_name!("b"), owned_room_id!("!r:a"));
        let (alice, bob) = (owned_user_id!("@alice:a"), owned_user_id!("@bob:a"));
        let both = BTreeSet::from([alice.clone(), bob.clone()]);
        let half = TYPING_TOLD_EVERY_MS / 2;
        // When it is asked, who types then, of whom there is news, and when that is there.
        for (at, typing, expected, arrived) in [
            (0, BTreeSet::from([alice.clone()]), vec![(&alice, true)], 0),
            (half - 1_000, both.clone(), vec![(&bob, true)], half + 1_000),
            (half + 1_000, both.clone(), vec![(&alice, true)], half + 1_500),
            (half + 2_000, both, vec![], half + 2_000),
            (half + 3_000, BTreeSet::from([bob.clone()]), vec![(&alice, false)], half + 3_000),
            (half + 4_000, BTreeSet::new(), vec![(&bob, false)], half + 4_000),
        ] {
            let news = told.news(&server, (&room, &typing), at);
            let shown: Vec<_> = news.iter().map(|(user, typing)| (user, *typing)).collect();
            assert_eq!(shown, expected, "at {at}");
            let news = news.into_iter().filter(|(_, typing)| *typing).map(|(user, _)| user).collect();
            told.told(&server, (room.clone(), typing, news), arrived);
        }
        assert!(told.0.lock().is_empty());
    }
}
