//! Small rows that are read again and again: access tokens, devices, the room that people talk in.
//!
//! What is kept here is always the newest version: a change of a row forgets it in the moment in which it
//! becomes visible, and a value that was read is kept only if nothing has changed meanwhile.

use quick_cache::{Weighter, sync::Cache};

use crate::{
    limits::{HOT_ROW_BYTES_MAX, HOT_ROWS_BYTES},
    store::Key,
};

/// What a row costs beside its key and value, about.
const OVERHEAD_BYTES: usize = 100;
/// A guess of how many rows fit; it only sizes bookkeeping.
const ROWS: usize = 4_096;

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Vec<u8>> for Weight {
    fn weight(&self, key: &Key, value: &Vec<u8>) -> u64 {
        (key.0.len() + value.len() + OVERHEAD_BYTES) as u64
    }
}

/// The rows that are kept.
pub(super) struct HotRows(Cache<Key, Vec<u8>, Weight>);

impl HotRows {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(ROWS, HOT_ROWS_BYTES, Weight))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn keep(&self, key: Key, value: Vec<u8>) {
        if value.len() <= HOT_ROW_BYTES_MAX {
            self.0.insert(key, value);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.remove(key);
    }
}
