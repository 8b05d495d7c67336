//! What was read lately, bounded in bytes or items.

use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use super::{Members, RoomRow, StoredEvent};
use crate::{
    dag::{Node, NodeId, StateId},
    limits::{EVENT_CACHE_BYTES, MEMBERS_CACHE_ROOMS, ROOM_CACHE_ROOMS, STATE_NODE_CACHE_NODES},
};

#[derive(Clone)]
pub(super) struct Weight;

impl Weighter<OwnedEventId, Arc<StoredEvent>> for Weight {
    fn weight(&self, _: &OwnedEventId, event: &Arc<StoredEvent>) -> u64 {
        event.weight()
    }
}

/// The caches. Nodes are always right; the others only while this process alone writes.
pub(super) struct Caches {
    pub(super) nodes: Cache<NodeId, Arc<Node>>,
    pub(super) members: Cache<OwnedRoomId, (StateId, Arc<Members>)>,
    events: Cache<OwnedEventId, Arc<StoredEvent>, Weight>,
    rooms: Cache<OwnedRoomId, Arc<RoomRow>>,
    /// Counts overwritten events; held while inserting, so that what was read before is not put over it.
    rewrites: Mutex<u64>,
    /// Held while comparing and inserting a room.
    room_order: Mutex<()>,
}

impl Caches {
    pub(super) fn new() -> Self {
        // A guess of how many items the weight holds; it only sizes bookkeeping.
        let events = usize::try_from(EVENT_CACHE_BYTES / 2_048).unwrap_or(1_024);
        Self {
            nodes: Cache::new(STATE_NODE_CACHE_NODES),
            members: Cache::new(MEMBERS_CACHE_ROOMS),
            events: Cache::with_weighter(events, EVENT_CACHE_BYTES, Weight),
            rooms: Cache::new(ROOM_CACHE_ROOMS),
            rewrites: Mutex::new(0),
            room_order: Mutex::new(()),
        }
    }

    pub(super) fn event(&self, id: &OwnedEventId) -> Option<Arc<StoredEvent>> {
        self.events.get(id)
    }

    /// To be told to [`Self::add_events`] about events that are read after this.
    pub(super) fn rewrites(&self) -> u64 {
        *self.rewrites.lock()
    }

    /// Keeps events that were read, unless one was overwritten meanwhile.
    pub(super) fn add_events(&self, events: &[Arc<StoredEvent>], rewrites: u64) {
        let now = self.rewrites.lock();
        if *now == rewrites {
            for event in events {
                self.events.insert(event.pdu.event_id().to_owned(), event.clone());
            }
        }
    }

    /// Keeps events that were written; those `rewritten` may have been read in their older form.
    pub(super) fn note_events(&self, written: &[Arc<StoredEvent>], rewritten: bool) {
        let mut now = self.rewrites.lock();
        *now += u64::from(rewritten);
        for event in written {
            self.events.insert(event.pdu.event_id().to_owned(), event.clone());
        }
    }

    pub(super) fn room(&self, room: &RoomId) -> Option<Arc<RoomRow>> {
        self.rooms.get(room)
    }

    /// Forgets a room that was removed.
    pub(super) fn forget_room(&self, room: &RoomId) {
        let _held = self.room_order.lock();
        self.rooms.remove(room);
        self.members.remove(room);
    }

    /// Forgets events that were removed.
    pub(super) fn forget_events(&self, ids: &[OwnedEventId]) {
        let mut now = self.rewrites.lock();
        *now += 1;
        for id in ids {
            self.events.remove(id);
        }
    }

    /// Keeps a room unless a newer row of it is kept already.
    pub(super) fn note_room(&self, room: &RoomId, row: &Arc<RoomRow>) {
        let _held = self.room_order.lock();
        if self.rooms.peek(room).is_none_or(|known| known.serial < row.serial) {
            self.rooms.insert(room.to_owned(), row.clone());
        }
    }
}
