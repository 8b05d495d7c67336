//! What was read lately, bounded in bytes or items.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use super::{History, Members, RoomRow, StoredEvent};
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
    /// Held while inserting, so that what was read before is not put over what was written since.
    rewrites: Mutex<Rewrites>,
    /// Held while comparing and inserting a room.
    room_order: Mutex<()>,
}

/// Events that are overwritten.
#[derive(Default)]
struct Rewrites {
    /// Counts them.
    count: u64,
    /// Those that are being overwritten: nobody knows which form is read of them, so that none is kept.
    under_way: HashMap<OwnedEventId, usize>,
}

/// As long as it lives, some events are read from the store: a commit overwrites them.
pub struct Rewriting {
    history: History,
    ids: Vec<OwnedEventId>,
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.history.0.caches.end_rewriting(&self.ids);
    }
}

impl History {
    /// To be called before a commit that overwrites events: whoever sees what the commit tells must not find them in their
    /// older form. To be dropped after [`History::note`].
    #[must_use]
    pub fn rewriting(&self, ids: Vec<OwnedEventId>) -> Rewriting {
        self.0.caches.begin_rewriting(&ids);
        Rewriting { history: self.clone(), ids }
    }
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
            rewrites: Mutex::default(),
            room_order: Mutex::new(()),
        }
    }

    pub(super) fn event(&self, id: &OwnedEventId) -> Option<Arc<StoredEvent>> {
        self.events.get(id)
    }

    /// To be told to [`Self::add_events`] about events that are read after this.
    pub(super) fn rewrites(&self) -> u64 {
        self.rewrites.lock().count
    }

    /// Keeps events that were read, unless one was overwritten meanwhile.
    pub(super) fn add_events(&self, events: &[Arc<StoredEvent>], rewrites: u64) {
        let now = self.rewrites.lock();
        if now.count == rewrites {
            for event in events.iter().filter(|event| !now.under_way.contains_key(event.pdu.event_id())) {
                self.events.insert(event.pdu.event_id().to_owned(), event.clone());
            }
        }
    }

    /// Keeps events that were written; those `rewritten` may have been read in their older form.
    pub(super) fn note_events(&self, written: &[Arc<StoredEvent>], rewritten: bool) {
        let mut now = self.rewrites.lock();
        now.count += u64::from(rewritten);
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
        now.count += 1;
        for id in ids {
            self.events.remove(id);
        }
    }

    fn begin_rewriting(&self, ids: &[OwnedEventId]) {
        let mut now = self.rewrites.lock();
        now.count += 1;
        for id in ids {
            self.events.remove(id);
            *now.under_way.entry(id.clone()).or_default() += 1;
        }
    }

    fn end_rewriting(&self, ids: &[OwnedEventId]) {
        let mut now = self.rewrites.lock();
        for id in ids {
            if let Some(count) = now.under_way.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    now.under_way.remove(id);
                }
            }
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
