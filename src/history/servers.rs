//! Which servers are in a room, and which must not be.

use std::collections::BTreeMap;

use ruma::{
    OwnedServerName, RoomId, ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::Value;

use super::History;
use crate::{
    dag::StateId,
    log::Audience,
    store::StoreError,
    types::{Lane, Membership},
};

impl History {
    /// The servers with joined users, those with most first.
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
        Ok(servers.into_iter().map(|(server, _)| server.to_owned()).collect())
    }

    /// Whether a remote server has a user in the room now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_server(&self, room: &RoomId, server: &ServerName) -> Result<bool, StoreError> {
        let lanes = self.log().subscriptions(&Audience::Server(server.to_owned())).await?;
        Ok(lanes.is_open(&Lane::Egress(room.to_owned())))
    }

    /// Whether the room's access control list lets `server` take part, as the room is now. What is
    /// malformed in the list counts for nothing.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>
    ///
    /// # Errors
    /// When the store fails.
    pub async fn admits_server(&self, room: &RoomId, server: &ServerName) -> Result<bool, StoreError> {
        match self.current_state(room).await? {
            Some(state) => self.admits_server_in(state, server).await,
            None => Ok(true),
        }
    }

    /// As [`Self::admits_server`], by one state of a room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn admits_server_in(&self, state: StateId, server: &ServerName) -> Result<bool, StoreError> {
        let acl = self.state_event(state, StateEventType::RoomServerAcl, "").await?;
        let content = acl.and_then(|acl| acl.pdu.content_as::<Value>().ok());
        let Some(content) = content else { return Ok(true) };
        let list = |name: &str| -> Vec<String> {
            let items = content.get(name).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
        };
        let literals = content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true);
        let acl = RoomServerAclEventContent::new(literals, list("allow"), list("deny"));
        Ok(acl.is_allowed(server))
    }
}
