//! One room, one writer at a time.
//!
//! A writer holds the [`RoomGuard`] while it builds on the room's heads. A plain message lets go as soon
//! as its commit is queued, so that the next message can follow it within the same group of the
//! committer; what the room will be is kept here meanwhile. If such a commit fails, those that built on
//! it fail too (each expects the room to be as its predecessor left it) and begin again from the store.
//!
//! A message needs to know only which heads it follows. What comes from outside is judged by the events
//! themselves: it waits until all that was queued is written, see [`RoomGuard::rest`].

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, RoomId};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedRwLockReadGuard, RwLock},
};
use tokio_util::task::TaskTracker;

use crate::history::RoomRow;

/// What the next writer of a room builds on.
#[derive(Default)]
pub(super) struct Ahead {
    /// The room as it will be once all queued commits are written; `None`: as the history says.
    pub(super) row: Option<Arc<RoomRow>>,
    /// Counts how often what was queued turned out to be for nothing.
    pub(super) epoch: u64,
    /// Held for reading by every commit that is queued and not remembered yet.
    queued: Arc<RwLock<()>>,
}

/// The rooms with writers now.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<OwnedRoomId, Arc<AsyncMutex<Ahead>>>>);

impl Slots {
    /// Waits for the room.
    pub(super) async fn lock(self: &Arc<Self>, room: &RoomId) -> RoomGuard {
        let slot = self.0.lock().entry(room.to_owned()).or_default().clone();
        // Made before the wait: whoever goes away meanwhile leaves nothing either.
        let stay = Stay { slots: self.clone(), room: room.to_owned(), slot: Some(slot.clone()) };
        let ahead = slot.lock_owned().await;
        RoomGuard { ahead, stay }
    }

    /// Whether somebody has the room, or waits for it.
    pub(super) fn is_taken(&self, room: &RoomId) -> bool {
        self.0.lock().contains_key(room)
    }

    fn tidy(&self, room: &RoomId, slot: Option<Arc<AsyncMutex<Ahead>>>) {
        let mut slots = self.0.lock();
        // Nobody else can get hold of the slot while the map is locked.
        drop(slot);
        if slots.get(room).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(room);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// The right to write to a room. Its fields are dropped in this order.
#[must_use]
pub(super) struct RoomGuard {
    pub(super) ahead: OwnedMutexGuard<Ahead>,
    stay: Stay,
}

impl RoomGuard {
    /// Waits until everything is written and remembered that others have queued.
    pub(super) async fn rest(&self) {
        drop(self.ahead.queued.write().await);
    }

    /// To be held while a commit is queued, until it is remembered.
    pub(super) async fn queue(&self) -> OwnedRwLockReadGuard<()> {
        // Nobody waits in `rest` meanwhile: that takes the guard, too.
        self.ahead.queued.clone().read_owned().await
    }

    /// Lets others write, but keeps what lies ahead in memory.
    pub(super) fn release(self) -> Stay {
        self.stay
    }
}

/// Keeps a room's slot in memory.
pub(super) struct Stay {
    slots: Arc<Slots>,
    room: OwnedRoomId,
    slot: Option<Arc<AsyncMutex<Ahead>>>,
}

impl Stay {
    /// Waits for the room again.
    pub(super) async fn lock(&self) -> Option<OwnedMutexGuard<Ahead>> {
        Some(self.slot.clone()?.lock_owned().await)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.slots.tidy(&self.room, self.slot.take());
    }
}

/// Work that goes on, on a task of its own, if whoever waits for it goes away.
pub(super) struct Lasting<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tasks: TaskTracker,
}

impl<T: Send + 'static> Lasting<T> {
    pub(super) fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), tasks: tasks.clone() }
    }
}

impl<T: Send + 'static> Future for Lasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let done = std::task::ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Lasting<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            drop(self.tasks.spawn_on(work, &runtime));
        }
    }
}
