//! How much is done for, or asked of, one server, or somebody else, at the same time.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use ruma::OwnedServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of places for each server, or whatever else has a name.
#[derive(Debug)]
pub struct Slots<K: Eq + Hash = OwnedServerName> {
    each: usize,
    all: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub struct Slot<'a, K: Eq + Hash = OwnedServerName> {
    slots: &'a Slots<K>,
    name: K,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash> Slots<K> {
    /// `each` places for everybody.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each: each.clamp(1, Semaphore::MAX_PERMITS), all: Mutex::default() }
    }

    /// Waits for a place.
    pub async fn enter<N>(&self, name: &N) -> Slot<'_, K>
    where
        N: ToOwned<Owned = K> + ?Sized,
        K: Borrow<N>,
    {
        let semaphore = {
            let mut all = self.all.lock();
            let fresh = || Arc::new(Semaphore::new(self.each));
            all.entry(name.to_owned()).or_insert_with(fresh).clone()
        };
        let mut slot = Slot { slots: self, name: name.to_owned(), permit: None };
        // It is never closed; without a permit there would just be no bound.
        slot.permit = semaphore.acquire_owned().await.ok();
        slot
    }
}

impl<K: Eq + Hash> Drop for Slot<'_, K> {
    fn drop(&mut self) {
        self.permit = None;
        let mut all = self.slots.all.lock();
        // Those who wait hold the semaphore too.
        if all.get(&self.name).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedServerName, server_name};

    use super::Slots;

    #[tokio::test]
    async fn places_are_counted_by_server_and_forgotten() {
        let slots = Slots::<OwnedServerName>::new(1);
        let a = slots.enter(server_name!("a")).await;
        let _b = slots.enter(server_name!("b")).await;
        let mut waiting = Box::pin(slots.enter(server_name!("a")));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(a);
        drop(waiting.await);
        assert_eq!(slots.all.lock().len(), 1);
    }
}
