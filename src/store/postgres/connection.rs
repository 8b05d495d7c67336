//! Connections that come back: a lost one is made again when it is next needed, a few times.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{Settings, failure, schema};
use crate::store::StoreError;

/// Attempts to connect before the caller is told that the database cannot be reached.
const ATTEMPTS: u32 = 5;
/// The pause after the first failed attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Commits; holds the lock that keeps other processes out.
    Writer,
    /// Takes positions that are set aside, without waiting for the disk.
    Lazy,
    /// Reads.
    Reader,
}

/// A connection with its statements; cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Arc<Client>,
    pub(super) get: Statement,
    pub(super) keys: Statement,
    pub(super) scan: Statement,
    pub(super) scan_back: Statement,
    pub(super) head: Statement,
    pub(super) lock_head: Statement,
    pub(super) delete: Statement,
    pub(super) put: Statement,
    pub(super) advance: Statement,
    pub(super) reserve: Statement,
}

/// A place for a connection.
pub(super) struct Slot {
    settings: Settings,
    config: Config,
    tasks: TaskTracker,
    role: Role,
    connection: Option<Connection>,
    /// A transaction was begun and not seen to end: its caller may have gone away in the middle.
    busy: bool,
}

/// A transaction on the connection of a slot.
#[must_use]
pub(super) struct Busy(());

impl Slot {
    pub(super) fn new(settings: Settings, tasks: TaskTracker, role: Role) -> Result<Self, StoreError> {
        let parsed: Result<Config, _> = settings.url.parse();
        // The text may hold a password, so the parser's complaint is all that is said.
        let mut config =
            parsed.map_err(|error| StoreError::Unusable(format!("the database URL: {error}")))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("lockstep");
        }
        Ok(Self { settings, config, tasks, role, connection: None, busy: false })
    }

    /// The connection, made again if need be.
    pub(super) async fn connect(&mut self) -> Result<Connection, StoreError> {
        if self.busy {
            // Whatever was under way on the old connection ends with it.
            self.disconnect();
        }
        if let Some(connection) = self.connection.as_ref().filter(|connection| !connection.client.is_closed())
        {
            return Ok(connection.clone());
        }
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.open().await {
                Ok(connection) => {
                    self.connection = Some(connection.clone());
                    return Ok(connection);
                }
                // A database that refuses us will not change its mind; one that is in use may, when the
                // process before us has just gone.
                Err(error @ StoreError::Corrupt(_)) => return Err(error),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => warn!(%error, attempt, "PostgreSQL cannot be reached: {error}"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    /// Marks the connection as being in a transaction.
    pub(super) fn begin(&mut self) -> Busy {
        self.busy = true;
        Busy(())
    }

    /// The transaction has ended; after a failure the connection is not used again.
    pub(super) fn end(&mut self, _: Busy, well: bool) {
        self.busy = !well;
    }

    /// Lets the connection go.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
        self.busy = false;
    }

    async fn open(&self) -> Result<Connection, StoreError> {
        // Encrypted connections would be made here, with another connector than `NoTls`.
        let (mut client, driver) = self.config.connect(NoTls).await.map_err(failure)?;
        self.tasks.spawn(async move {
            if let Err(error) = driver.await {
                debug!(%error, "a connection to PostgreSQL ended: {error}");
            }
        });
        match self.role {
            Role::Writer => {
                schema::lock(&client).await?;
                schema::prepare(&mut client, &self.settings.server_name).await?;
            }
            Role::Lazy => {
                client.batch_execute("set synchronous_commit = off").await.map_err(failure)?;
            }
            Role::Reader => {}
        }
        prepare(client).await.map_err(failure)
    }
}

async fn prepare(client: Client) -> Result<Connection, tokio_postgres::Error> {
    let range = "from lockstep_kv where key >= $1 and key < $2";
    Ok(Connection {
        get: client.prepare("select key, value from lockstep_kv where key = any($1)").await?,
        keys: client.prepare(&format!("select key {range} order by key")).await?,
        scan: client.prepare(&format!("select key, value {range} order by key limit $3")).await?,
        scan_back: client.prepare(&format!("select key, value {range} order by key desc limit $3")).await?,
        head: client.prepare("select position from lockstep_head").await?,
        lock_head: client.prepare("select position, reserved from lockstep_head for update").await?,
        delete: client.prepare("delete from lockstep_kv where key = any($1)").await?,
        put: client
            .prepare(
                "insert into lockstep_kv (key, value) select * from unnest($1::bytea[], $2::bytea[])
                 on conflict (key) do update set value = excluded.value",
            )
            .await?,
        advance: client
            .prepare("update lockstep_head set position = $1, reserved = greatest(reserved, $1)")
            .await?,
        reserve: client.prepare("update lockstep_head set position = $1, reserved = $2").await?,
        client: Arc::new(client),
    })
}
