//! How much is done for, or asked of, one server at the same time.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of places for each server.
#[derive(Debug)]
pub struct Slots {
    each: usize,
    servers: Mutex<HashMap<OwnedServerName, Arc<Semaphore>>>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    server: OwnedServerName,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `each` places for every server.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each: each.clamp(1, Semaphore::MAX_PERMITS), servers: Mutex::default() }
    }

    /// Waits for a place.
    pub async fn enter(&self, server: &ServerName) -> Slot<'_> {
        let semaphore = {
            let mut servers = self.servers.lock();
            let fresh = || Arc::new(Semaphore::new(self.each));
            servers.entry(server.to_owned()).or_insert_with(fresh).clone()
        };
        let mut slot = Slot { slots: self, server: server.to_owned(), permit: None };
        // It is never closed; without a permit there would just be no bound.
        slot.permit = semaphore.acquire_owned().await.ok();
        slot
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut servers = self.slots.servers.lock();
        // Those who wait hold the semaphore too.
        if servers.get(&self.server).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            servers.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::Slots;

    #[tokio::test]
    async fn places_are_counted_by_server_and_forgotten() {
        let slots = Slots::new(1);
        let a = slots.enter(server_name!("a")).await;
        let _b = slots.enter(server_name!("b")).await;
        let mut waiting = Box::pin(slots.enter(server_name!("a")));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(a);
        drop(waiting.await);
        assert_eq!(slots.servers.lock().len(), 1);
    }
}
