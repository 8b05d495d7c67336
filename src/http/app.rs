//! What every handler is given.

use std::{ops::Deref, sync::Arc};

use ruma::OwnedServerName;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::auth::Authenticate;
use crate::{account::Accounts, device::Devices, history::History, log::Log, types::Ports};

/// The services of a running server, for handlers. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Services>);

/// One field for each service; `server` fills it in.
pub struct Services {
    /// The name of this server, the part of its users' ids after the colon.
    pub server_name: OwnedServerName,
    /// Time and randomness.
    pub ports: Ports,
    /// The log.
    pub log: Log,
    /// Accounts and their sessions.
    pub accounts: Accounts,
    /// Devices and their keys.
    pub devices: Devices,
    /// The read side of rooms.
    pub history: History,
    /// Knows whom an access token stands for.
    pub gate: Arc<dyn Authenticate>,
    /// Every task of the server belongs to it.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops: long polls answer at once.
    pub stopping: CancellationToken,
}

impl App {
    /// Handlers share `services`.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for App {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}
