//! Couriers: whatever is owed to other servers, and to users' phones, is brought to them, page by page.
//!
//! Owns: the tables `Destination`, `DeliveredDevices`, `Appservice` and `AppserviceRegistration`, and the cursors of
//! remote servers. May use: everything down to `push`, but neither `room` nor `federation`. Start reading at [`Couriers`] for servers,
//! at [`Pushers`] for phones, at [`AppserviceCouriers`] for application services; then `dispatch` (who is served when), `courier` (one server's deliveries) and `render` (a page becomes
//! transactions).
//!
//! Invariants: a server's cursor advances only after the server has answered 200; a transaction is
//! repeated with the same id and the same bytes, and what is planned anew gets a new id; nothing waits
//! in memory for a server that is down: it costs its cursor, its outbox and a row that says when to try
//! again; one server's trouble delays no other; an item that a server refuses holds up nothing else; only a
//! server that was reached is out of trouble.

mod appservices;
mod backoff;
mod courier;
mod dispatch;
mod lists;
mod parcel;
mod pushers;
mod render;
mod standing;
mod transport;
mod typing;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use ruma::{OwnedServerName, OwnedTransactionId, ServerName};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use appservices::{
    AppserviceClient, AppserviceCouriers, AppserviceError, AppserviceRow, AppserviceTransport,
    AppserviceTrouble, RegisterError, load_registered, make_sender,
};
pub use backoff::DestinationStatus;
pub use pushers::{ByNet, Digest, DigestLine, Gateway, Letters, Means, Pushers};
pub use standing::{Lag, Standing, stored_standings};
pub use transport::ByPeers;

use crate::{
    device::Devices,
    history::History,
    limits::{COURIERS_MAX, COURIERS_UNPROVEN_MAX},
    log::CommitError,
    store::{BoxFuture, StoreError},
    types::Ports,
    upkeep,
};

/// What one `PUT /_matrix/federation/v1/send/{txnId}` carries.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#transactions>
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its id; a repetition has the same one.
    pub id: OwnedTransactionId,
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// At most 50 events, in the format of federation.
    pub pdus: Vec<Box<RawValue>>,
    /// At most 100 objects with `edu_type` and `content`.
    pub edus: Vec<Box<RawValue>>,
}

/// Why a transaction did not arrive.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// What happened, for the operator.
    pub message: String,
    /// How long the server asks us to wait, if it does.
    pub retry_after: Option<Duration>,
    /// Whether the server is there and refuses what is in the transaction: the same again would be refused again.
    pub is_refusal: bool,
}

/// Brings transactions to servers.
pub trait Transport: Send + Sync + 'static {
    /// Resolves once `server` has answered 200.
    fn put<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<(), TransportError>>;

    /// Whether the operator wants nothing brought to `server`, as long as this server runs.
    fn denies(&self, _server: &ServerName) -> bool {
        false
    }
}

/// How patient couriers are.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The pause after a first failure; each further failure doubles it.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

/// Why a delivery did not get on.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It panicked.
    #[error("a mistake in this program")]
    Fault,
}

/// Serves every remote server that something is owed to. Cheap to clone.
#[derive(Clone)]
pub struct Couriers(Arc<Inner>);

struct Inner {
    history: History,
    devices: Devices,
    ports: Ports,
    transport: Arc<dyn Transport>,
    settings: Settings,
    desk: Mutex<dispatch::Desk>,
    /// Told when a courier ends, or a server has been heard from.
    changed: Notify,
    typing: typing::Told,
    /// For those who were reached the last time.
    proven: Arc<Semaphore>,
    /// For those in trouble, and those never reached: they take long, and hold nobody else up.
    unproven: Arc<Semaphore>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl fmt::Debug for Couriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Couriers")
    }
}

impl Couriers {
    /// Begins to deliver on `tasks`, until `stopping`.
    #[must_use]
    pub fn start(
        (history, devices): (History, Devices),
        transport: Arc<dyn Transport>,
        settings: Settings,
        ports: Ports,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let this = Self(Arc::new(Inner {
            history,
            devices,
            ports,
            transport,
            settings,
            desk: Mutex::default(),
            changed: Notify::new(),
            typing: typing::Told::default(),
            proven: Arc::new(Semaphore::new(COURIERS_MAX)),
            unproven: Arc::new(Semaphore::new(COURIERS_UNPROVEN_MAX)),
            tasks: tasks.clone(),
            stopping,
        }));
        let (couriers, stopping) = (this.clone(), this.0.stopping.clone());
        let dispatching = move || dispatch::run(couriers.clone());
        tasks.spawn(upkeep::keep("the dispatch to other servers", stopping, dispatching));
        this
    }

    /// `server` has just reached us, so it is worth trying to reach it.
    pub fn heard_from(&self, server: &ServerName) {
        if self.0.desk.lock().heard_from(server) {
            self.0.changed.notify_one();
        }
    }

    fn now_ms(&self) -> u64 {
        self.0.ports.clock.now_ms()
    }

    fn log(&self) -> &crate::log::Log {
        self.0.history.log()
    }

    /// How the deliveries to every server stand that has had trouble.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn troubled(&self) -> Result<Vec<(OwnedServerName, DestinationStatus)>, StoreError> {
        backoff::all(self.log()).await
    }
}
