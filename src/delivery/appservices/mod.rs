//! Application services: what they want to hear of is brought to them in transactions, in order.
//!
//! An application service is one more reader of the log. Its row holds how far it has got and the
//! transaction on its way, which is written down before it is sent: whatever happens, it is repeated with
//! the same id and the same bytes until it is taken, and the next one begins where it ended. Start reading
//! at [`AppserviceCouriers`], then `courier` (one application service's deliveries), `page` (what of the log
//! it gets) and `interest` (which events). [`AppserviceClient`] asks what is not a transaction.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#pushing-events>

mod client;
mod courier;
mod interest;
mod page;
mod people;
mod row;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use client::{AppserviceClient, AppserviceError};
pub use row::{AppserviceRow, AppserviceTrouble};

use super::{Settings, TransportError};
use crate::{
    account::Accounts,
    appservice::{Appservice, Appservices},
    device::Devices,
    history::History,
    store::{BoxFuture, StoreError},
    types::Ports,
};

/// Brings transactions to application services.
pub trait AppserviceTransport: Send + Sync + 'static {
    /// Resolves once it has answered 200.
    fn put<'a>(
        &'a self,
        to: &'a Appservice,
        txn_id: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), TransportError>>;
}

/// Serves every application service that has an address. Cheap to clone.
#[derive(Clone)]
pub struct AppserviceCouriers(Arc<Inner>);

struct Inner {
    history: History,
    accounts: Accounts,
    devices: Devices,
    ports: Ports,
    transport: Arc<dyn AppserviceTransport>,
    settings: Settings,
    /// Told when an application service has been heard from.
    heard: BTreeMap<String, Notify>,
    stopping: CancellationToken,
}

impl fmt::Debug for AppserviceCouriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppserviceCouriers")
    }
}

impl AppserviceCouriers {
    /// Begins to serve `all` on `tasks`, until `stopping`.
    #[must_use]
    pub fn start(
        all: &Appservices,
        (history, accounts, devices): (History, Accounts, Devices),
        (transport, settings): (Arc<dyn AppserviceTransport>, Settings),
        ports: Ports,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let heard = all.iter().map(|it| (it.registration.id.clone(), Notify::new())).collect();
        let this =
            Self(Arc::new(Inner { history, accounts, devices, ports, transport, settings, heard, stopping }));
        for appservice in all.iter().filter(|it| it.registration.url.is_some()) {
            tasks.spawn(courier::run(this.clone(), appservice.clone()));
        }
        this
    }

    /// An application service has just reached us, so it is worth trying to reach it.
    pub fn heard_from(&self, appservice: &Appservice) {
        if let Some(heard) = self.0.heard.get(&appservice.registration.id) {
            heard.notify_one();
        }
    }

    /// How far an application service has got.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standing(&self, appservice: &Appservice) -> Result<Option<AppserviceRow>, StoreError> {
        row::load(self.log(), &appservice.registration.id).await
    }

    fn log(&self) -> &crate::log::Log {
        self.0.history.log()
    }
}
