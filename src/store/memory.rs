//! The engine that keeps everything in memory: for tests, and for servers that may forget.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::{Batch, BoxFuture, Committed, Key, Row, Scan, Store, StoreError, needed, resolve};
use crate::types::Position;

/// Rows in a map behind a lock. Nothing survives the process.
#[derive(Debug, Default)]
pub struct Memory(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Vec<u8>>,
    head: Position,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn scan(&self, scan: &Scan) -> Vec<Row> {
        if scan.from >= scan.to {
            return Vec::new();
        }
        let rows = self.rows.range(&scan.from..&scan.to).map(|(key, value)| (key.clone(), value.clone()));
        match scan.reverse {
            false => rows.take(scan.limit).collect(),
            true => rows.rev().take(scan.limit).collect(),
        }
    }

    fn commit(&mut self, group: Vec<Batch>) -> Committed {
        let needed = needed(&group);
        let found = needed.keys.into_iter().filter_map(|key| {
            let value = self.rows.get(&key)?.clone();
            Some((key, value))
        });
        let found = found.collect();
        let keys_of = |(from, to): &(Key, Key)| match from < to {
            true => self.rows.range(from..to).map(|(key, _)| key.clone()).collect(),
            false => Vec::new(),
        };
        let range_keys = needed.ranges.iter().map(keys_of).collect();
        let resolved = resolve(group, self.head, &found, range_keys);
        for (key, value) in resolved.writes {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
        self.head.0 += resolved.taken;
        Committed { outcomes: resolved.outcomes, head: self.head }
    }
}

impl Store for Memory {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        Box::pin(async move {
            let state = self.0.read();
            Ok(keys.iter().map(|key| state.rows.get(key).cloned()).collect())
        })
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        Box::pin(async move {
            let state = self.0.read();
            Ok(scans.iter().map(|scan| state.scan(scan)).collect())
        })
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { Ok(self.0.write().commit(group)) })
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            let mut state = self.0.write();
            let first = state.head.next();
            state.head.0 += count;
            Ok(first)
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move { Ok(self.0.read().head) })
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn conforms() {
        conformance::run(conformance::suite(Box::new(Memory::new()), async |store| store));
    }

    #[test]
    fn behaves_like_the_model() {
        conformance::model(200, Memory::new, |store| store);
    }
}
