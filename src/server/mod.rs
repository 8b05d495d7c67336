//! Wiring, listeners, TLS, telemetry, shutdown order, real clock and randomness.
//!
//! Owns: the order in which things start and stop. May use: all of them. Start reading at [`Running`].
//! Invariants: nothing answers before the store is open; when the server stops, it stops accepting,
//! long polls end at once, requests under way are drained, the log is written, the store is closed, in
//! this order; no task outlives [`Running::stop`].

mod connections;
mod folder;
mod listener;
pub mod logging;
mod offline;
mod ports;
mod start;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use folder::{Folder, FolderError};
pub use listener::ListenError;
pub use offline::Offline;
pub use ports::real_ports;
pub use start::{Place, StartError, internet};
pub use tls::TlsError;

use crate::{
    config::{Address, Config},
    http::App,
    limits::DRAIN_SECONDS_MAX,
    peer::{Dns, Internet},
    store::{Store, StoreError},
    types::Ports,
};

/// A server that answers. Dropping it without [`Running::stop`] leaves its tasks behind.
#[must_use]
pub struct Running {
    app: App,
    net: Arc<Internet>,
    store: Arc<dyn Store>,
    addresses: Vec<Address>,
    /// Ends the listeners, and asks connections to finish what they are at.
    accepting: CancellationToken,
    /// Ends connections at once.
    cutting: CancellationToken,
    connections: TaskTracker,
    store_tasks: TaskTracker,
}

impl Running {
    /// Opens everything and listens, with the real clock and randomness.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        start::start(config, real_ports(), None).await
    }

    /// As [`Self::start`], with another clock or other randomness.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start_with(config: Config, ports: Ports) -> Result<Self, StartError> {
        start::start(config, ports, None).await
    }

    /// As [`Self::start_with`], with another DNS.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start_among(config: Config, ports: Ports, dns: Arc<dyn Dns>) -> Result<Self, StartError> {
        start::start(config, ports, Some(dns)).await
    }

    /// Where it listens, with the ports that were taken for 0.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The services, for tests that look inside.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The way to other servers.
    #[must_use]
    pub fn net(&self) -> &Arc<Internet> {
        &self.net
    }

    /// Stops in order; see the module.
    ///
    /// # Errors
    /// When the store cannot be closed cleanly. Everything acknowledged is safe even then.
    pub async fn stop(self) -> Result<(), StoreError> {
        let Self { app, net, store, addresses: _, accepting, cutting, connections, store_tasks } = self;
        accepting.cancel();
        app.stopping.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN_SECONDS_MAX, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "some connections did not finish in time");
            cutting.cancel();
            connections.wait().await;
        }
        net.close();
        app.log.close();
        app.tasks.close();
        if tokio::time::timeout(DRAIN_SECONDS_MAX, app.tasks.wait()).await.is_err() {
            tracing::error!(left = app.tasks.len(), "some tasks did not end");
        }
        drop(app);
        let closed = store.close().await;
        drop(store);
        store_tasks.close();
        if tokio::time::timeout(DRAIN_SECONDS_MAX, store_tasks.wait()).await.is_err() {
            tracing::error!(left = store_tasks.len(), "some tasks of the store did not end");
        }
        closed
    }
}
