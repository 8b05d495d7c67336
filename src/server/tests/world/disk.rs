//! What of a server survives a crash: everything whose commit was answered, and perhaps the last one.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use crate::{
    store::{Batch, BoxFuture, Committed, Key, Row, Scan, Store, StoreError, memory::Memory},
    types::Position,
};

/// The rows of a server as one of its lives sees them. Afterwards it answers nothing any more.
pub(super) struct Disk {
    rows: Arc<Memory>,
    life: CancellationToken,
    rng: Mutex<StdRng>,
}

impl Disk {
    pub(super) fn new(rows: Arc<Memory>, life: CancellationToken, seed: u64) -> Self {
        Self { rows, life, rng: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    /// Waits a moment, or for ever if the life ends.
    async fn turn(&self, ms_max: u64) {
        let ms = self.rng.lock().random_range(0..=ms_max);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if self.life.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets others go on before a row is read.
    async fn yielded(&self) {
        if self.rng.lock().random_ratio(1, 8) {
            tokio::task::yield_now().await;
        }
        self.turn(0).await;
    }
}

impl Store for Disk {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        Box::pin(async move {
            self.yielded().await;
            self.rows.get_many(keys).await
        })
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        Box::pin(async move {
            self.yielded().await;
            self.rows.scan_many(scans).await
        })
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            self.turn(2).await;
            let committed = self.rows.commit(group).await;
            self.turn(2).await;
            committed
        })
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            self.turn(0).await;
            self.rows.reserve(count).await
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.rows.head()
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.rows.close()
    }
}
