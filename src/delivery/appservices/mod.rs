//! Application services: what they want to hear of is brought to them in transactions, in order.
//!
//! An application service is one more reader of the log. Its row holds how far it has got and the
//! transaction on its way, which is written down before it is sent: whatever happens, it is repeated with
//! the same id and the same bytes until it is taken, and the next one begins where it ended. One that it refuses is
//! planned anew, under another id. Start reading at [`AppserviceCouriers`], then `courier` (one application service's
//! deliveries), `page` (what of the log it gets), `budget` (how much of it at once), `interest` (which events) and `messages` (what is sent to devices); `registered` has them come and go while the server runs.
//! [`AppserviceClient`] asks what is not a transaction.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#pushing-events>

mod budget;
mod client;
mod courier;
mod interest;
mod messages;
mod page;
mod people;
mod registered;
mod row;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use client::{AppserviceClient, AppserviceError};
pub use registered::{RegisterError, load_registered, make_sender};
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
    /// By the ids of their application services.
    running: Mutex<BTreeMap<String, Running>>,
    /// Held while application services come or go. Nothing else is locked by those who wait for it.
    changing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// A courier at work.
struct Running {
    /// Told when the application service has been heard from.
    heard: Arc<Notify>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
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
        let (running, changing) = (Mutex::default(), tokio::sync::Mutex::new(()));
        let tasks = tasks.clone();
        let this = Self(Arc::new(Inner {
            history,
            accounts,
            devices,
            ports,
            transport,
            settings,
            running,
            changing,
            tasks,
            stopping,
        }));
        for appservice in all.all() {
            this.begin(&appservice);
        }
        this
    }

    /// Begins to serve an application service, if it has an address.
    fn begin(&self, appservice: &Arc<Appservice>) {
        if appservice.registration.url.is_none() {
            return;
        }
        let (heard, stopping) = (Arc::new(Notify::new()), self.0.stopping.child_token());
        let serving = courier::run(self.clone(), appservice.clone(), (heard.clone(), stopping.clone()));
        let task = self.0.tasks.spawn(serving);
        let id = appservice.registration.id.clone();
        self.0.running.lock().insert(id, Running { heard, stopping, task });
    }

    /// Serves an application service no more; when this returns its courier writes nothing any more.
    async fn end(&self, id: &str) {
        let ended = self.0.running.lock().remove(id);
        if let Some(Running { stopping, task, .. }) = ended {
            stopping.cancel();
            // One that has panicked has ended too.
            drop(task.await);
        }
    }

    /// An application service has just reached us, so it is worth trying to reach it.
    pub fn heard_from(&self, appservice: &Appservice) {
        if let Some(running) = self.0.running.lock().get(&appservice.registration.id) {
            running.heard.notify_one();
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
