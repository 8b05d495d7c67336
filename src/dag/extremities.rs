//! The forward extremities of a room: the events that no accepted event follows yet.

use std::collections::HashSet;

use ruma::{EventId, OwnedEventId};

use super::pdu::Pdu;
use crate::limits::EXTREMITY_WALK_MAX;

/// The heads once the accepted event `event` is in the room: itself, and those that it does not follow.
///
/// A soft-failed or rejected event never becomes a head; do not call this for one. But `event` may follow
/// one, and then it also follows what that one followed: `unaccepted` gives such an event, and nothing for
/// an accepted or unknown one. At most [`EXTREMITY_WALK_MAX`] of them are walked through.
#[must_use]
pub fn after(
    heads: &[OwnedEventId],
    event: &Pdu,
    unaccepted: impl Fn(&EventId) -> Option<Pdu>,
) -> Vec<OwnedEventId> {
    let mut followed: HashSet<OwnedEventId> = HashSet::new();
    let mut queue: Vec<OwnedEventId> = event.prev_events().to_vec();
    let mut walked = 0;
    while let Some(id) = queue.pop() {
        if !followed.insert(id.clone()) {
            continue;
        }
        if walked < EXTREMITY_WALK_MAX
            && let Some(hidden) = unaccepted(&id)
        {
            walked += 1;
            queue.extend(hidden.prev_events().iter().cloned());
        }
    }
    let mut left: Vec<OwnedEventId> = heads.iter().filter(|id| !followed.contains(*id)).cloned().collect();
    if !left.iter().any(|id| id == event.event_id()) {
        left.push(event.event_id().to_owned());
    }
    left
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::after;
    use crate::dag::world::World;

    #[test]
    fn heads_move_on() {
        let mut world = World::new("12");
        let root = world.heads[0].clone();
        let left = world.build("alice", "m.room.message", None, json!({"n": 1})).unwrap();
        let right = world.build("alice", "m.room.message", None, json!({"n": 2})).unwrap();
        let heads = after(&[root.event_id().to_owned()], &left, |_| None);
        assert_eq!(heads, [left.event_id()]);
        let heads = after(&heads, &right, |_| None);
        assert_eq!(heads, [left.event_id(), right.event_id()]);
        assert_eq!(after(&heads, &right, |_| None), heads, "twice is once");

        world.heads = vec![left.clone(), right.clone()];
        let join = world.build("alice", "m.room.message", None, json!({"n": 3})).unwrap();
        assert_eq!(after(&heads, &join, |_| None), [join.event_id()]);

        // Left was soft-failed, so the root is still a head until somebody follows left.
        world.heads = vec![left.clone()];
        let on_left = world.build("alice", "m.room.message", None, json!({"n": 4})).unwrap();
        let heads = [root.event_id().to_owned()];
        let hidden = |id: &ruma::EventId| (id == left.event_id()).then(|| left.clone());
        assert_eq!(after(&heads, &on_left, hidden), [on_left.event_id()]);
    }
}
