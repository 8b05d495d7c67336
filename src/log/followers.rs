//! Local users of whom somebody wants to know when there is something new for them, be they here or not.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::Subscriptions;
use crate::types::Lane;

/// Names a user in the index of rooms, which would be large with ids.
type Number = u32;

/// Who is followed, which rooms they read now, and for whom there is something new.
///
/// Bounded by the number of local users and their memberships.
#[derive(Default)]
pub(super) struct Followers {
    numbers: HashMap<OwnedUserId, Number>,
    users: Vec<OwnedUserId>,
    rooms: HashMap<OwnedRoomId, Vec<Number>>,
    news: BTreeSet<OwnedUserId>,
}

impl Followers {
    /// From now on `user`, who reads `rooms`, is followed.
    pub(super) fn add(&mut self, user: &OwnedUserId, rooms: &Subscriptions) {
        if self.numbers.contains_key(user) {
            return;
        }
        let number = Number::try_from(self.users.len()).unwrap_or(Number::MAX);
        self.users.push(user.clone());
        self.numbers.insert(user.clone(), number);
        for room in rooms.open_rooms() {
            self.rooms.entry(room.clone()).or_default().push(number);
        }
    }

    /// Whether `user` is followed.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.numbers.contains_key(user)
    }

    /// A user begins or ceases to read a room. What closes is told after what was written with it.
    pub(super) fn change(&mut self, user: &UserId, room: &OwnedRoomId, opens: bool) {
        let Some(number) = self.numbers.get(user).copied() else { return };
        if opens {
            let readers = self.rooms.entry(room.clone()).or_default();
            if !readers.contains(&number) {
                readers.push(number);
            }
        } else if let Some(readers) = self.rooms.get_mut(room) {
            readers.retain(|other| *other != number);
            if readers.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    /// Something was written to `lane`. True if it is of interest.
    pub(super) fn touch(&mut self, lane: &Lane) -> bool {
        match lane {
            Lane::Room(room) => {
                let readers = self.rooms.get(room).into_iter().flatten();
                let mut any = false;
                for number in readers {
                    any = true;
                    if let Some(user) = self.users.get(*number as usize) {
                        self.news.insert(user.clone());
                    }
                }
                any
            }
            Lane::Account(user) if self.has(user) => {
                self.news.insert(user.clone());
                true
            }
            _ => false,
        }
    }

    /// For whom there is something new since this was last asked.
    pub(super) fn take(&mut self) -> BTreeSet<OwnedUserId> {
        mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;
    use crate::types::Position;

    #[test]
    fn followed_users_have_news_of_the_rooms_they_are_in_and_of_themselves() {
        let (alice, bob) = (user_id!("@alice:a").to_owned(), user_id!("@bob:a").to_owned());
        let (lounge, cellar) = (room_id!("!lounge:a").to_owned(), room_id!("!cellar:a").to_owned());
        let mut rooms = Subscriptions::default();
        rooms.change(Lane::Room(lounge.clone()), true, Position(1));
        let mut followers = Followers::default();
        assert!(!followers.touch(&Lane::Room(lounge.clone())), "nobody is followed yet");
        followers.add(&alice, &rooms);
        let mut news = |lane: Lane| {
            let woken = followers.touch(&lane);
            (woken, followers.take().into_iter().collect::<Vec<_>>())
        };
        assert_eq!(news(Lane::Room(lounge.clone())), (true, vec![alice.clone()]));
        assert_eq!(news(Lane::Room(cellar.clone())), (false, vec![]));
        assert_eq!(news(Lane::Account(alice.clone())), (true, vec![alice.clone()]));
        assert_eq!(news(Lane::Account(bob.clone())), (false, vec![]));
        followers.change(&alice, &cellar, true);
        followers.change(&alice, &lounge, false);
        followers.change(&bob, &lounge, true);
        assert!(!followers.touch(&Lane::Room(lounge)));
        assert!(followers.touch(&Lane::Room(cellar)));
        assert_eq!(followers.take(), BTreeSet::from([alice]));
    }
}
