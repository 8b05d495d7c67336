//! The store of a server that does not run, for the commands that look into it.

use std::sync::Arc;

use ruma::ServerName;
use tokio_util::task::TaskTracker;

use super::{Folder, StartError, real_ports, start::open_store};
use crate::{
    account::{self, Accounts},
    config::Config,
    delivery::{Standing, stored_standings},
    history::History,
    log::Log,
    store::{Db, Store, StoreError},
};

/// An open store without a server. Call [`Offline::close`] in the end.
#[must_use]
pub struct Offline {
    /// The rooms in it.
    pub history: History,
    /// The accounts in it.
    pub accounts: Accounts,
    log: Log,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    store_tasks: TaskTracker,
}

impl Offline {
    /// Opens what the server of `config` keeps; refused while that runs.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        Folder::open(config)?;
        let (tasks, store_tasks) = (TaskTracker::new(), TaskTracker::new());
        let store = open_store(config, &store_tasks).await?;
        let log = Log::open(Db::new(store.clone()), &tasks).await?;
        let history = History::open(log.clone(), real_ports(), config.server_name.clone()).await?;
        let settings = account::Settings::default();
        let accounts = Accounts::new(log.clone(), real_ports(), config.server_name.clone(), settings);
        Ok(Self { history, accounts, log, store, tasks, store_tasks })
    }

    /// How the deliveries to other servers stand; see [`stored_standings`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standings(&self, server: Option<&ServerName>) -> Result<Vec<Standing>, StoreError> {
        stored_standings(&self.log, server).await
    }

    /// Everything in it, to be read.
    #[must_use]
    pub fn db(&self) -> &Db {
        self.log.db()
    }

    /// Closes the store.
    ///
    /// # Errors
    /// When it cannot be closed cleanly.
    pub async fn close(self) -> Result<(), StoreError> {
        let Self { history, accounts, log, store, tasks, store_tasks } = self;
        log.close();
        drop((history, accounts, log));
        tasks.close();
        tasks.wait().await;
        let closed = store.close().await;
        drop(store);
        store_tasks.close();
        store_tasks.wait().await;
        closed
    }
}
