//! What is due when, in memory.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::Mutex as Turn;

use super::Row;
use crate::limits::DELAYED_EVENT_KEEP_MS;

/// Every delayed event that has a row, waiting or ended.
#[derive(Default)]
pub(super) struct Desk {
    known: HashMap<String, Known>,
    /// When each is to be sent, or to be forgotten after its end. Those that stand in a line are not in it.
    due: BTreeSet<(u64, String)>,
    waiting: HashMap<OwnedUserId, HashSet<String>>,
    /// What is due in each room that has somebody who sends it, in order.
    lines: HashMap<OwnedRoomId, VecDeque<String>>,
}

struct Known {
    user_id: OwnedUserId,
    room_id: OwnedRoomId,
    due_ms: u64,
    ended: bool,
    turn: Arc<Turn<()>>,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Rooms whose line was empty, and is not any more.
    pub(super) rooms: Vec<OwnedRoomId>,
    /// Ids whose rows are to be forgotten.
    pub(super) old: Vec<String>,
    /// When there is more to do.
    pub(super) next_ms: Option<u64>,
}

impl Desk {
    /// Notes what the row of `id` says now.
    pub(super) fn put(&mut self, id: &str, row: &Row) {
        let turn = self.known.get(id).map(|known| known.turn.clone()).unwrap_or_default();
        self.forget(id);
        let due_ms = match &row.end {
            Some(end) => end.at_ms.saturating_add(DELAYED_EVENT_KEEP_MS),
            None => {
                self.waiting.entry(row.user_id.clone()).or_default().insert(String::from(id));
                row.due_ms()
            }
        };
        self.due.insert((due_ms, String::from(id)));
        let (user_id, room_id) = (row.user_id.clone(), row.intent.room_id.clone());
        let known = Known { user_id, room_id, due_ms, ended: row.end.is_some(), turn };
        self.known.insert(String::from(id), known);
    }

    /// Notes that `id` has no row any more.
    pub(super) fn forget(&mut self, id: &str) {
        let Some(known) = self.known.remove(id) else { return };
        self.due.remove(&(known.due_ms, String::from(id)));
        if let Some(ids) = self.waiting.get_mut(&known.user_id) {
            ids.remove(id);
            if ids.is_empty() {
                self.waiting.remove(&known.user_id);
            }
        }
    }

    /// Has `id` tried again at another time.
    pub(super) fn put_off(&mut self, id: &str, until_ms: u64) {
        let Some(known) = self.known.get_mut(id) else { return };
        self.due.remove(&(known.due_ms, String::from(id)));
        known.due_ms = until_ms;
        self.due.insert((until_ms, String::from(id)));
    }

    /// Held by whoever does something about `id`.
    pub(super) fn turn_of(&self, id: &str) -> Option<Arc<Turn<()>>> {
        self.known.get(id).map(|known| known.turn.clone())
    }

    /// How many of `user` wait.
    pub(super) fn waiting(&self, user: &UserId) -> usize {
        self.waiting.get(user).map_or(0, HashSet::len)
    }

    /// When the first of `user` is due that waits; 0 if none does.
    pub(super) fn next_due_ms(&self, user: &UserId) -> u64 {
        let ids = self.waiting.get(user).into_iter().flatten();
        ids.filter_map(|id| Some(self.known.get(id)?.due_ms)).min().unwrap_or_default()
    }

    /// Those of `user` that wait, in the order of their times.
    pub(super) fn of(&self, user: &UserId) -> Vec<String> {
        let ids = self.waiting.get(user).into_iter().flatten();
        let mut ids: Vec<_> = ids.filter_map(|id| Some((self.known.get(id)?.due_ms, id.clone()))).collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Those that were to be sent in `room`, waiting or ended.
    pub(super) fn in_room(&self, room: &RoomId) -> Vec<String> {
        let found = self.known.iter().filter(|(_, known)| known.room_id == *room);
        found.map(|(id, _)| id.clone()).collect()
    }

    /// All of `user`, ended or not.
    pub(super) fn all_of(&self, user: &UserId) -> Vec<String> {
        let ids = self.known.iter().filter(|(_, known)| known.user_id == user);
        ids.map(|(id, _)| id.clone()).collect()
    }

    /// Puts what is due by `now_ms` in the lines of its rooms.
    pub(super) fn line_up(&mut self, now_ms: u64) -> Due {
        let mut found = Due::default();
        let later = self.due.split_off(&(now_ms.saturating_add(1), String::new()));
        for (_, id) in std::mem::replace(&mut self.due, later) {
            let Some(known) = self.known.get(&id) else { continue };
            if known.ended {
                found.old.push(id);
                continue;
            }
            if !self.lines.contains_key(&known.room_id) {
                found.rooms.push(known.room_id.clone());
            }
            self.lines.entry(known.room_id.clone()).or_default().push_back(id);
        }
        found.next_ms = self.due.first().map(|(due_ms, _)| *due_ms);
        found
    }

    /// The next in the line of `room`; without one the line is no more.
    pub(super) fn next_of(&mut self, room: &RoomId) -> Option<String> {
        let next = self.lines.get_mut(room)?.pop_front();
        if next.is_none() {
            self.lines.remove(room);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::{owned_room_id, owned_user_id};
    use serde_json::value::RawValue;

    use super::{Desk, Due, Row};
    use crate::{
        limits::DELAYED_EVENT_KEEP_MS,
        room::delayed::{End, Intent, Outcome},
    };

    fn row(room: &str, since_ms: u64, delay_ms: u64) -> Row {
        let intent = Intent {
            room_id: room.try_into().unwrap(),
            event_type: "m.x".to_owned(),
            state_key: None,
            content: RawValue::from_string("{}".to_owned()).unwrap(),
            delay_ms,
            sticky_ms: None,
        };
        Row { user_id: owned_user_id!("@a:b"), intent, since_ms, end: None }
    }

    fn ended(row: Row, at_ms: u64) -> Row {
        Row { end: Some(End { at_ms, outcome: Outcome::Cancelled }), ..row }
    }

    #[test]
    fn what_is_due_stands_in_the_line_of_its_room_in_order() {
        let (user, room) = (owned_user_id!("@a:b"), owned_room_id!("!r:b"));
        let mut desk = Desk::default();
        desk.put("late", &row("!r:b", 0, 30));
        desk.put("second", &row("!r:b", 5, 15));
        desk.put("first", &row("!r:b", 0, 10));
        desk.put("other", &row("!s:b", 0, 20));
        assert_eq!(desk.of(&user), ["first", "other", "second", "late"]);
        assert_eq!(desk.line_up(9), Due { next_ms: Some(10), ..Due::default() });
        let due = desk.line_up(20);
        assert_eq!(due.rooms, [room.clone(), owned_room_id!("!s:b")]);
        assert_eq!((due.old.len(), due.next_ms), (0, Some(30)));
        assert_eq!(
            desk.line_up(20),
            Due { next_ms: Some(30), ..Due::default() },
            "nobody stands in a line twice"
        );
        assert_eq!(desk.next_of(&room).as_deref(), Some("first"));
        assert_eq!(desk.line_up(30), Due::default(), "the line is still there");
        assert_eq!(desk.next_of(&room).as_deref(), Some("second"));
        assert_eq!(desk.next_of(&room).as_deref(), Some("late"));
        assert_eq!(desk.next_of(&room), None);
        assert_eq!(desk.waiting(&user), 4, "what nobody said anything of still waits");
    }

    #[test]
    fn what_has_ended_is_kept_for_a_while() {
        let user = owned_user_id!("@a:b");
        let mut desk = Desk::default();
        desk.put("x", &row("!r:b", 0, 10));
        let turn = desk.turn_of("x").unwrap();
        desk.put("x", &ended(row("!r:b", 0, 10), 7));
        assert!(Arc::ptr_eq(&turn, &desk.turn_of("x").unwrap()));
        assert_eq!((desk.waiting(&user), desk.of(&user)), (0, Vec::<String>::new()));
        assert_eq!(desk.line_up(10), Due { next_ms: Some(7 + DELAYED_EVENT_KEEP_MS), ..Due::default() });
        let due = desk.line_up(7 + DELAYED_EVENT_KEEP_MS);
        assert_eq!((due.rooms.len(), due.old.as_slice()), (0, ["x".to_owned()].as_slice()));
        desk.forget("x");
        assert!(desk.turn_of("x").is_none());
    }

    #[test]
    fn who_is_put_off_comes_again() {
        let mut desk = Desk::default();
        desk.put("x", &row("!r:b", 0, 10));
        assert_eq!(desk.line_up(10).rooms.len(), 1);
        desk.put_off("x", 50);
        assert_eq!(desk.next_of(&owned_room_id!("!r:b")).as_deref(), Some("x"));
        assert_eq!(desk.next_of(&owned_room_id!("!r:b")), None);
        assert_eq!(desk.line_up(49).next_ms, Some(50));
        assert_eq!(desk.line_up(50).rooms.len(), 1);
    }
}
