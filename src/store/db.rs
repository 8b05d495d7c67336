//! Typed reading over any engine.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{Key, KeyFields, Scan, Store, StoreError, table::Rows};
use crate::limits::SCAN_ROWS_MAX;

/// A handle on the store that reads typed rows. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<dyn Store>);

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Db")
    }
}

impl Deref for Db {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Db {
    /// Reads through `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// One untyped row.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn raw(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get_many(std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// One row.
    ///
    /// # Errors
    /// When the engine fails or the row is damaged.
    pub async fn row<K, V>(&self, rows: &Rows<K, V>, key: &K) -> Result<Option<V>, StoreError>
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        self.raw(&rows.key(key)).await?.map(|value| rows.decode(&value)).transpose()
    }

    /// Several rows, in the order of `keys`.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn rows<K, V>(&self, rows: &Rows<K, V>, keys: &[K]) -> Result<Vec<Option<V>>, StoreError>
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        let keys: Vec<Key> = keys.iter().map(|key| rows.key(key)).collect();
        let values = self.0.get_many(&keys).await?;
        values.into_iter().map(|value| value.map(|value| rows.decode(&value)).transpose()).collect()
    }

    /// The first `limit` rows whose keys begin with `prefix`, in key order.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn range<K, V, P>(
        &self,
        rows: &Rows<K, V>,
        prefix: &P,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError>
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
        P: KeyFields,
    {
        let from = rows.prefix(prefix);
        let to = from.after_prefix();
        let limit = limit.min(SCAN_ROWS_MAX);
        self.scan(rows, Scan { from, to, reverse: false, limit }).await
    }

    /// The rows that begin with `prefix` and that `keep` wants, however many there are: read a page at a time.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn select<K, V, P>(
        &self,
        rows: &Rows<K, V>,
        prefix: &P,
        mut keep: impl FnMut(&K, &V) -> bool,
    ) -> Result<Vec<(K, V)>, StoreError>
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
        P: KeyFields,
    {
        let mut from = rows.prefix(prefix);
        let to = from.after_prefix();
        let mut kept = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let page = self.scan(rows, scan).await?;
            let next = page.last().filter(|_| page.len() == SCAN_ROWS_MAX).map(|(key, _)| rows.key(key));
            kept.extend(page.into_iter().filter(|(key, value)| keep(key, value)));
            match next {
                Some(last) => from = last.successor(),
                None => return Ok(kept),
            }
        }
    }

    /// The rows of any scan within one table.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn scan<K, V>(&self, rows: &Rows<K, V>, scan: Scan) -> Result<Vec<(K, V)>, StoreError>
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        let found = self.0.scan_many(&[scan]).await?.pop().unwrap_or_default();
        found.into_iter().map(|(key, value)| Ok((rows.decode_key(&key)?, rows.decode(&value)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Memory, Stamped, Write, table::TableId};

    /// However many there are, and none of another table.
    #[tokio::test]
    async fn select_reads_all_rows_page_by_page() {
        const NUMBERS: Rows<(u64,), u64> = Rows::new(TableId::GuestRoom);
        const OTHERS: Rows<(u64,), u64> = Rows::new(TableId::Farewell);
        let count = SCAN_ROWS_MAX as u64 * 2 + 1;
        let db = Db::new(Arc::new(Memory::new()));
        let put = |key: Key, value: Vec<u8>| Write::Put(Stamped::plain(key.0), Stamped::plain(value));
        let mut batch = Batch::default();
        batch.writes.extend((0..count).map(|n| put(NUMBERS.key(&(n,)), NUMBERS.encode(&n))));
        batch.writes.push(put(OTHERS.key(&(1,)), OTHERS.encode(&1)));
        db.commit(vec![batch]).await.unwrap();
        let mut seen = 0;
        let odd = db.select(&NUMBERS, &(), |_, n| {
            seen += 1;
            n % 2 == 1
        });
        assert!(odd.await.unwrap().into_iter().map(|(_, n)| n).eq((0..count).filter(|n| n % 2 == 1)));
        assert_eq!(seen, count);
    }
}
