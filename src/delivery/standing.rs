//! How the deliveries to other servers stand, for those who run this one.

use std::collections::BTreeSet;

use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};

use super::{Couriers, DestinationStatus, backoff};
use crate::{
    limits::{DESTINATION_WAITING_COUNTED, DESTINATIONS_MEASURED_MAX, DESTINATIONS_TOLD_MAX},
    log::Log,
    store::StoreError,
};

/// How the deliveries to one server stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The server.
    pub server: OwnedServerName,
    /// How many events and messages wait for it, as far as they are counted.
    pub waiting: usize,
    /// Whether there are more than these.
    pub more: bool,
    /// Why and since when it is not reached, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<DestinationStatus>,
}

/// What waits for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The server.
    pub server: OwnedServerName,
    /// How many events and messages, as far as they are counted.
    pub waiting: usize,
    /// How long the oldest of them has been waiting at most, in milliseconds.
    pub oldest_ms: u64,
}

impl Couriers {
    /// What waits for those servers for whom something has been waiting longest.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lags(&self) -> Result<Vec<Lag>, StoreError> {
        let mut behind = self.0.desk.lock().behind();
        behind.sort();
        let now_ms = self.now_ms();
        let mut lags = Vec::new();
        for (since_ms, server) in behind.into_iter().take(DESTINATIONS_MEASURED_MAX) {
            let waiting = self.log().waiting(&server, DESTINATION_WAITING_COUNTED).await?;
            if waiting > 0 {
                lags.push(Lag { server, waiting, oldest_ms: now_ms.saturating_sub(since_ms) });
            }
        }
        Ok(lags)
    }

    /// How the deliveries to `server` stand, or to all servers that are being delivered to or in trouble.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standings(&self, server: Option<&ServerName>) -> Result<Vec<Standing>, StoreError> {
        let servers = match server {
            Some(server) => BTreeSet::from([server.to_owned()]),
            None => self.0.desk.lock().servers().collect(),
        };
        standings(self.log(), servers, server.is_some()).await
    }
}

/// How the deliveries to the server named stand, or to all for which something waits or that are in
/// trouble; read from the store of a server that does not run.
///
/// # Errors
/// When the store fails.
pub async fn stored_standings(log: &Log, server: Option<&ServerName>) -> Result<Vec<Standing>, StoreError> {
    let servers = match server {
        Some(server) => BTreeSet::from([server.to_owned()]),
        None => log.load_servers().await?.all,
    };
    standings(log, servers, server.is_some()).await
}

async fn standings(
    log: &Log,
    mut servers: BTreeSet<OwnedServerName>,
    is_named: bool,
) -> Result<Vec<Standing>, StoreError> {
    let mut troubled = backoff::all(log).await?;
    match is_named {
        true => troubled.retain(|(server, _)| servers.contains(server)),
        false => servers.extend(troubled.iter().map(|(server, _)| server.clone())),
    }
    let mut found = Vec::new();
    for server in servers {
        if found.len() >= DESTINATIONS_TOLD_MAX {
            break;
        }
        let waiting = log.waiting(&server, DESTINATION_WAITING_COUNTED).await?;
        let more = waiting >= DESTINATION_WAITING_COUNTED;
        let trouble = troubled.iter().find(|(known, _)| *known == server).map(|(_, trouble)| trouble.clone());
        if is_named || waiting > 0 || trouble.is_some() {
            found.push(Standing { server, waiting, more, trouble });
        }
    }
    Ok(found)
}
