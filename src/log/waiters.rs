//! Who waits, and whom a fact wakes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::Notify;

use super::Subscriptions;
use crate::limits::ROOM_READERS_MAX;

/// Names a user in the index of rooms, which would be large with ids.
type Number = u32;

/// Waiting devices by user, and who of those that have waited reads which room.
///
/// A user stays in the index after the wait, since most wait again at once.
#[derive(Default)]
pub(super) struct Waiters {
    numbers: HashMap<OwnedUserId, Number>,
    people: Vec<Waiting>,
    rooms: HashMap<OwnedRoomId, Vec<Number>>,
    /// How many numbers there are in `rooms`.
    size: usize,
    /// Waiting users who are not in the index; everything wakes them.
    lost: HashSet<Number>,
    /// Users who are still to be woken by the commit with which they left a room.
    leaving: Vec<(OwnedRoomId, Number)>,
    next_id: u64,
}

#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    is_indexed: bool,
}

struct Waiter {
    id: u64,
    device: OwnedDeviceId,
    notify: Arc<Notify>,
}

impl Waiters {
    /// Adds a waiter; its id is to be handed to [`Self::remove`].
    pub(super) fn add(
        &mut self,
        (user, device): (&OwnedUserId, &OwnedDeviceId),
        notify: &Arc<Notify>,
        rooms: &Subscriptions,
    ) -> u64 {
        if self.size > ROOM_READERS_MAX {
            // Who waits on is found again at the next wait.
            self.rooms.clear();
            self.size = 0;
            for (number, person) in (0..).zip(&mut self.people) {
                person.is_indexed = false;
                if !person.waiters.is_empty() {
                    self.lost.insert(number);
                }
            }
        }
        let number = self.number(user);
        self.lost.remove(&number);
        if !std::mem::replace(&mut self.people[number as usize].is_indexed, true) {
            for room in rooms.open_rooms() {
                self.rooms.entry(room.clone()).or_default().push(number);
                self.size += 1;
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let waiter = Waiter { id, device: device.clone(), notify: notify.clone() };
        self.people[number as usize].waiters.push(waiter);
        id
    }

    /// Removes a waiter.
    pub(super) fn remove(&mut self, user: &UserId, id: u64) {
        if let Some(number) = self.numbers.get(user) {
            let waiters = &mut self.people[*number as usize].waiters;
            waiters.retain(|waiter| waiter.id != id);
            if waiters.is_empty() {
                self.lost.remove(number);
            }
        }
    }

    /// Whether `user` is, or lately was, waiting.
    pub(super) fn knows(&self, user: &UserId) -> bool {
        self.numbers.contains_key(user)
    }

    /// A user begins or ceases to read a room.
    pub(super) fn change(&mut self, user: &UserId, room: &OwnedRoomId, opens: bool) {
        let Some(number) = self.numbers.get(user).copied() else { return };
        if !opens {
            self.leaving.push((room.clone(), number));
        } else if self.people[number as usize].is_indexed {
            let readers = self.rooms.entry(room.clone()).or_default();
            if !readers.contains(&number) {
                readers.push(number);
                self.size += 1;
            }
            self.leaving.retain(|(left, who)| (left, *who) != (room, number));
        }
    }

    /// Adds to `woken` whom something in a room concerns.
    pub(super) fn of_room(&self, room: &RoomId, woken: &mut Vec<Arc<Notify>>) {
        for number in self.rooms.get(room).into_iter().flatten() {
            self.people[*number as usize].wake(None, woken);
        }
        self.lost(woken);
    }

    /// Adds to `woken` the devices of a user, or one of them.
    pub(super) fn of_user(
        &self,
        user: &UserId,
        device: Option<&OwnedDeviceId>,
        woken: &mut Vec<Arc<Notify>>,
    ) {
        if let Some(number) = self.numbers.get(user) {
            self.people[*number as usize].wake(device, woken);
        }
    }

    /// Adds to `woken` whoever reads one of `rooms`, where `person` may be; without those, everybody.
    pub(super) fn of_person(
        &self,
        person: &UserId,
        rooms: Option<Vec<&OwnedRoomId>>,
        woken: &mut Vec<Arc<Notify>>,
    ) {
        let Some(rooms) = rooms else { return self.all(woken) };
        let sharing = rooms.iter().filter_map(|room| self.rooms.get(*room)).flatten();
        let sharing: HashSet<Number> = sharing.copied().collect();
        sharing.into_iter().for_each(|number| self.people[number as usize].wake(None, woken));
        self.of_user(person, None, woken);
        self.lost(woken);
    }

    /// Adds everybody to `woken`.
    pub(super) fn all(&self, woken: &mut Vec<Arc<Notify>>) {
        self.people.iter().for_each(|person| person.wake(None, woken));
    }

    /// To be called when those whom a commit concerns have been woken.
    pub(super) fn settle(&mut self) {
        for (room, number) in std::mem::take(&mut self.leaving) {
            let Some(readers) = self.rooms.get_mut(&room) else { continue };
            let before = readers.len();
            readers.retain(|reader| *reader != number);
            self.size -= before - readers.len();
            if readers.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    fn lost(&self, woken: &mut Vec<Arc<Notify>>) {
        self.lost.iter().for_each(|number| self.people[*number as usize].wake(None, woken));
    }

    fn number(&mut self, user: &OwnedUserId) -> Number {
        if let Some(number) = self.numbers.get(user) {
            return *number;
        }
        let number = Number::try_from(self.people.len()).unwrap_or(Number::MAX);
        self.numbers.insert(user.clone(), number);
        self.people.push(Waiting::default());
        number
    }
}

impl Waiting {
    fn wake(&self, device: Option<&OwnedDeviceId>, woken: &mut Vec<Arc<Notify>>) {
        let concerned =
            self.waiters.iter().filter(|waiter| device.is_none_or(|device| *device == waiter.device));
        woken.extend(concerned.map(|waiter| waiter.notify.clone()));
    }
}
