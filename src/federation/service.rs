//! The service and what it stands on.

use std::{fmt, ops::Deref, sync::Arc};

use super::transaction::Turns;
use crate::{
    account::Accounts, device::Devices, ephemeral::Ephemeral, history::History, identity::Identity, log::Log,
    peer::Peers, room::Rooms, types::Ports,
};

/// The services that [`Federation`] uses.
pub struct Neighbours {
    /// The log.
    pub log: Log,
    /// Time and randomness.
    pub ports: Ports,
    /// The other servers; also knows our name and key.
    pub peers: Peers,
    /// The read side of rooms.
    pub history: History,
    /// Accounts and their sessions.
    pub accounts: Accounts,
    /// Devices and their keys.
    pub devices: Devices,
    /// Typing, receipts and presence.
    pub ephemeral: Ephemeral,
    /// Identity servers.
    pub identity: Identity,
    /// The verbs of rooms.
    pub rooms: Rooms,
}

/// Answers other servers. Cheap to clone.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

struct Inner {
    neighbours: Neighbours,
    turns: Turns,
}

impl Federation {
    /// Stands on `neighbours`.
    #[must_use]
    pub fn new(neighbours: Neighbours) -> Self {
        Self(Arc::new(Inner { neighbours, turns: Turns::default() }))
    }
}

impl Federation {
    /// Whose transaction is under way.
    pub(super) fn turns(&self) -> &Turns {
        &self.0.turns
    }
}

impl Deref for Federation {
    type Target = Neighbours;

    fn deref(&self) -> &Neighbours {
        &self.0.neighbours
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Federation")
    }
}
