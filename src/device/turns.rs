//! Taking turns: requests about the same device or backup wait for each other instead of failing
//! each other's expectations over and over.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use tokio::sync::{Mutex, MutexGuard};

use crate::limits::DEVICE_TURNS;

/// One lock per share of all keys. Only a matter of fairness: what makes a change safe are the
/// expectations of its commit, so these guards may be held while a commit is awaited.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..DEVICE_TURNS).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits for the turn of all `keys`. Locks are taken in ascending order, so nobody waits in a ring.
    pub(super) async fn take<K: Hash>(&self, keys: impl IntoIterator<Item = K>) -> Vec<MutexGuard<'_, ()>> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let share = |key: K| usize::try_from(hasher.hash_one(key) % DEVICE_TURNS as u64).unwrap_or(0);
        let mut places: Vec<usize> = keys.into_iter().map(share).collect();
        places.sort_unstable();
        places.dedup();
        let mut guards = Vec::with_capacity(places.len());
        for place in places {
            guards.push(self.0[place].lock().await);
        }
        guards
    }
}
