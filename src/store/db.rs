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
