//! Which servers are in a room.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, RoomId, ServerName};

use super::{History, tables::PARTIAL};
use crate::{
    log::Audience,
    store::StoreError,
    types::{Lane, Membership},
};

impl History {
    /// The servers with joined users, those with most first; last those of which it is not known yet who is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn servers_by_members(&self, room: &RoomId) -> Result<Vec<OwnedServerName>, StoreError> {
        let members = self.current_members(room).await?;
        let mut counts: BTreeMap<&ServerName, usize> = BTreeMap::new();
        for user in members.with(Membership::Join) {
            *counts.entry(user.server_name()).or_default() += 1;
        }
        let mut servers: Vec<_> = counts.into_iter().collect();
        servers.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        let mut servers: Vec<_> = servers.into_iter().map(|(server, _)| server.to_owned()).collect();
        if self.is_partial(room).await? {
            let partial = self.log().db().row(&PARTIAL, &(room.to_owned(),)).await?;
            let named = partial.into_iter().flat_map(|partial| partial.servers);
            let more: Vec<_> = named.filter(|server| !servers.contains(server)).collect();
            servers.extend(more);
        }
        Ok(servers)
    }

    /// Whether a remote server has a user in the room now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_server(&self, room: &RoomId, server: &ServerName) -> Result<bool, StoreError> {
        let lanes = self.log().subscriptions(&Audience::Server(server.to_owned())).await?;
        Ok(lanes.is_open(&Lane::Egress(room.to_owned())))
    }
}
