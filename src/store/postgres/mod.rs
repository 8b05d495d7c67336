//! The engine for communities that outgrow one machine: one partitioned table in PostgreSQL.
//!
//! A group of commits is one transaction of two round trips. The first locks the sequencer row and
//! reads what the judgement needs; the second writes. The lock is held until the commit, so positions
//! become visible in order and without holes, and expectations hold whoever else writes: nothing here
//! needs to be the only process, though for now [`Postgres`] makes sure that it is, because layers
//! above keep caches.

mod connection;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::{join_all, try_join, try_join_all};
use tokio::sync::Mutex;
use tokio_postgres::{Row as SqlRow, types::ToSql};
use tokio_util::task::TaskTracker;

use self::connection::{Connection, Slot};
use super::{Batch, BoxFuture, Committed, Key, Resolved, Row, Scan, Store, StoreError, needed, resolve};
use crate::{limits::STORE_RESERVE_BLOCK, types::Position};

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A connection string: `postgres://…` or `host=… user=… dbname=…`.
    pub url: String,
    /// The server it belongs to; another server's database is refused.
    pub server_name: String,
    /// Connections for reading.
    pub readers: usize,
}

impl Settings {
    /// The usual settings.
    #[must_use]
    pub fn new(url: impl Into<String>, server_name: impl Into<String>) -> Self {
        Self { url: url.into(), server_name: server_name.into(), readers: 4 }
    }
}

/// A store in a PostgreSQL database.
pub struct Postgres {
    writer: Mutex<Slot>,
    /// Does not wait for the disk; only for positions that are set aside durably already.
    lazy: Mutex<Slot>,
    readers: Vec<Mutex<Slot>>,
    next_reader: AtomicUsize,
    closed: AtomicBool,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl Postgres {
    /// Connects, and makes the tables if the database has none. The connections are driven by tasks on
    /// `tasks` and end with the store.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the database is not one for us, or in use; [`StoreError::Engine`]
    /// when it cannot be reached.
    pub async fn open(settings: Settings, tasks: &TaskTracker) -> Result<Self, StoreError> {
        let readers = settings.readers.max(1);
        let slot = |role| Slot::new(settings.clone(), tasks.clone(), role);
        let writer = Mutex::new(slot(connection::Role::Writer)?);
        writer.lock().await.connect().await?;
        let readers: Result<Vec<_>, _> = (0..readers).map(|_| slot(connection::Role::Reader)).collect();
        Ok(Self {
            writer,
            lazy: Mutex::new(slot(connection::Role::Lazy)?),
            readers: readers?.into_iter().map(Mutex::new).collect(),
            next_reader: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }

    async fn reader(&self) -> Result<Connection, StoreError> {
        self.check_open()?;
        let number = self.next_reader.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        self.readers[number].lock().await.connect().await
    }
}

/// The values of `keys` in their order.
async fn values(connection: &Connection, keys: &[Key]) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
    let rows = connection.client.query(&connection.get, &[&keys]).await.map_err(failure)?;
    Ok(rows.into_iter().map(row_of).collect())
}

fn row_of(row: SqlRow) -> Row {
    (Key(row.get(0)), row.get(1))
}

async fn rows(connection: &Connection, scan: &Scan) -> Result<Vec<Row>, StoreError> {
    if scan.from >= scan.to || scan.limit == 0 {
        return Ok(Vec::new());
    }
    let statement = if scan.reverse { &connection.scan_back } else { &connection.scan };
    let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
    let rows = connection.client.query(statement, &[&scan.from.0, &scan.to.0, &limit]).await;
    Ok(rows.map_err(failure)?.into_iter().map(row_of).collect())
}

async fn keys_in(connection: &Connection, from: &Key, to: &Key) -> Result<Vec<Key>, StoreError> {
    if from >= to {
        return Ok(Vec::new());
    }
    let rows = connection.client.query(&connection.keys, &[&from.0, &to.0]).await.map_err(failure)?;
    Ok(rows.into_iter().map(|row| Key(row.get(0))).collect())
}

/// Begins a transaction, locks the sequencer row until its end, and gives head and reserved. Both
/// requests are sent when this is first polled.
async fn lock_head(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let begin = connection.client.batch_execute("begin");
    let lock = connection.client.query_one(&connection.lock_head, &[]);
    let ((), row) = try_join(begin, lock).await.map_err(failure)?;
    Ok((row.get::<_, i64>(0).cast_unsigned(), row.get::<_, i64>(1).cast_unsigned()))
}

async fn commit(connection: &Connection, group: Vec<Batch>) -> Result<Committed, StoreError> {
    let needed = needed(&group);
    let ranges = needed.ranges.iter().map(|(from, to)| keys_in(connection, from, to));
    // All of this is on its way before the first answer comes, in this order. Each statement sees what
    // is committed when it begins; the reads begin under the lock, so what they find holds until the end.
    let (head, (found, range_keys)) =
        try_join(lock_head(connection), try_join(values(connection, &needed.keys), try_join_all(ranges)))
            .await?;
    let Resolved { outcomes, writes, taken, .. } = resolve(group, Position(head.0), &found, range_keys);
    let head = head.0 + taken;
    if taken == 0 && writes.is_empty() {
        connection.client.batch_execute("rollback").await.map_err(failure)?;
        return Ok(Committed { outcomes, head: Position(head) });
    }
    let mut gone: Vec<&[u8]> = Vec::new();
    let (mut keys, mut values): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (key, value) in &writes {
        match value {
            Some(value) => {
                keys.push(&key.0);
                values.push(value);
            }
            None => gone.push(&key.0),
        }
    }
    let client = &connection.client;
    let delete = async {
        match gone.is_empty() {
            true => Ok(0),
            false => client.execute(&connection.delete, &[&gone]).await,
        }
    };
    let put = async {
        match keys.is_empty() {
            true => Ok(0),
            false => client.execute(&connection.put, &[&keys, &values]).await,
        }
    };
    let position = head.cast_signed();
    let parameters: [&(dyn ToSql + Sync); 1] = [&position];
    let advance = client.execute(&connection.advance, &parameters);
    let commit = async { client.batch_execute("commit").await.map(|()| 0) };
    // `commit` of a transaction in which something failed undoes it and reports no error; the failure
    // is then in one of the other answers.
    let answers: [futures_util::future::BoxFuture<'_, _>; 4] =
        [Box::pin(delete), Box::pin(put), Box::pin(advance), Box::pin(commit)];
    for answer in join_all(answers).await {
        answer.map_err(failure)?;
    }
    Ok(Committed { outcomes, head: Position(head) })
}

/// Takes positions; durable before it returns unless all were set aside durably before.
async fn reserve(connection: &Connection, count: u64, lazy: bool) -> Result<Option<Position>, StoreError> {
    let (head, mut reserved) = lock_head(connection).await?;
    let taken = head.saturating_add(count);
    if taken > reserved {
        if lazy {
            connection.client.batch_execute("rollback").await.map_err(failure)?;
            return Ok(None);
        }
        reserved = taken.saturating_add(STORE_RESERVE_BLOCK);
    }
    let (taken, reserved) = (taken.cast_signed(), reserved.cast_signed());
    connection.client.execute(&connection.reserve, &[&taken, &reserved]).await.map_err(failure)?;
    connection.client.batch_execute("commit").await.map_err(failure)?;
    Ok(Some(Position(head + 1)))
}

impl Store for Postgres {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        Box::pin(async move {
            let connection = self.reader().await?;
            let found = values(&connection, keys).await?;
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        })
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        Box::pin(async move {
            let connection = self.reader().await?;
            try_join_all(scans.iter().map(|scan| rows(&connection, scan))).await
        })
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            self.check_open()?;
            let mut slot = self.writer.lock().await;
            let connection = slot.connect().await?;
            let busy = slot.begin();
            let committed = commit(&connection, group).await;
            slot.end(busy, committed.is_ok());
            committed
        })
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            self.check_open()?;
            for lazy in [true, false] {
                let mut slot = if lazy { self.lazy.lock().await } else { self.writer.lock().await };
                let connection = slot.connect().await?;
                let busy = slot.begin();
                let reserved = reserve(&connection, count, lazy).await;
                slot.end(busy, reserved.is_ok());
                if let Some(first) = reserved? {
                    return Ok(first);
                }
            }
            Err(StoreError::engine("positions ran out"))
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            let connection = self.reader().await?;
            let row = connection.client.query_one(&connection.head, &[]).await.map_err(failure)?;
            Ok(Position(row.get::<_, i64>(0).cast_unsigned()))
        })
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Release);
            self.writer.lock().await.disconnect();
            self.lazy.lock().await.disconnect();
            for reader in &self.readers {
                reader.lock().await.disconnect();
            }
            Ok(())
        })
    }
}

fn failure(error: tokio_postgres::Error) -> StoreError {
    // The database's own words are in the source only.
    match error.as_db_error() {
        Some(database) => StoreError::engine(format!("PostgreSQL: {database}")),
        None => StoreError::engine(error),
    }
}
