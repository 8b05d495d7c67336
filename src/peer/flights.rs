//! Work on the same thing that is done once for all who ask for it meanwhile.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// What is being worked on.
pub struct Flights<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// The result of `work` for `key`, or of the same work that somebody else has begun. If that one goes away
    /// before it is done, another one who waits begins anew.
    pub async fn join<F: Future<Output = V>>(&self, key: &K, work: impl FnOnce() -> F) -> V {
        let cell = self.0.lock().entry(key.clone()).or_default().clone();
        let leave = Leave { flights: self, key, cell: &cell };
        let value = cell.get_or_init(work).await.clone();
        drop(leave);
        value
    }
}

/// Removes the entry when the work is done, or when nobody else waits for it.
struct Leave<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    cell: &'a Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Drop for Leave<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let Some(known) = flights.get(self.key).filter(|known| Arc::ptr_eq(known, self.cell)) else { return };
        // One count is the map's, one ours.
        if known.initialized() || Arc::strong_count(known) <= 2 {
            flights.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::Flights;

    #[tokio::test]
    async fn many_ask_and_one_works() {
        let (flights, count) = (Flights::<u8, usize>::default(), AtomicUsize::new(0));
        let work = || async {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst)
        };
        let ask = |key: u8| {
            let flights = &flights;
            async move { flights.join(&key, work).await }
        };
        assert_eq!(join_all([ask(1), ask(1), ask(1)]).await, [0, 0, 0]);
        assert_eq!(join_all([ask(1), ask(2)]).await.iter().sum::<usize>(), 3);
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_early_does_not_stop_the_others() {
        let flights = Flights::<u8, u8>::default();
        let never = flights.join(&1, std::future::pending);
        let mut never = Box::pin(never);
        assert!(futures_util::poll!(&mut never).is_pending());
        let mut other = Box::pin(flights.join(&1, || async { 7 }));
        assert!(futures_util::poll!(&mut other).is_pending());
        drop(never);
        assert_eq!(other.await, 7);
        assert!(flights.0.lock().is_empty());
    }
}
