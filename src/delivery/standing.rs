//! How the deliveries to other servers stand, for those who run this one.

use std::collections::BTreeSet;

use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};

use super::{Couriers, DestinationStatus, backoff, courier::LIMITS};
use crate::{
    limits::DESTINATIONS_TOLD_MAX,
    log::Log,
    store::StoreError,
    types::{Cursor, Reader},
};

/// How the deliveries to one server stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The server.
    pub server: OwnedServerName,
    /// How many events and messages the next delivery has for it.
    pub waiting: usize,
    /// Whether there are more behind these.
    pub more: bool,
    /// Why and since when it is not reached, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<DestinationStatus>,
}

impl Couriers {
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
        None => log.load_servers().await?,
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
        let cursor = log.cursor_of(&server).await?;
        let page = log.page(&Reader::Server(server.clone()), cursor, &LIMITS).await?;
        let waiting = page.slices.iter().map(|slice| slice.facts.len()).sum();
        let more = page.to != Cursor::at(log.head()) && waiting > 0;
        let trouble = troubled.iter().find(|(known, _)| *known == server).map(|(_, trouble)| trouble.clone());
        if is_named || waiting > 0 || trouble.is_some() {
            found.push(Standing { server, waiting, more, trouble });
        }
    }
    Ok(found)
}
