//! What other servers may look up: users and their devices, aliases, rooms in a few words.

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, OneTimeKeyAlgorithm, OwnedDeviceId, OwnedEventId, OwnedRoomId,
    OwnedServerName, OwnedUserId, RoomAliasId, RoomId, ServerName, UserId, room::RoomSummary,
};
use serde_json::Value;

use super::{Federation, FederationError};
use crate::{
    account::AccountError,
    device::{QueriedKeys, check_asked},
    log::Direction,
};

/// A room as a server may see it in a hierarchy, with the rooms below it.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// The room itself.
    pub room: RoomSummary,
    /// Those below it that the server may know of.
    pub children: Vec<RoomSummary>,
    /// Those below it that it may not know of.
    pub inaccessible: Vec<OwnedRoomId>,
}

/// A local user's devices and keys, as of a moment in the log.
#[derive(Clone, Debug)]
pub struct DeviceList {
    /// When they changed last.
    pub stream_id: u64,
    /// The keys.
    pub keys: QueriedKeys,
}

impl Federation {
    /// The profile of a local user, or one field of it.
    ///
    /// # Errors
    /// When there is no such user here.
    pub async fn profile(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> Result<BTreeMap<String, Value>, FederationError> {
        self.local_only(user)?;
        let mut profile = self.accounts.profile(user).await?;
        if let Some(field) = field {
            profile.retain(|name, _| name == field);
        }
        Ok(profile)
    }

    /// Where an alias of this server points, and which servers are in that room.
    ///
    /// # Errors
    /// When there is no such alias here.
    pub async fn alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>), FederationError> {
        match alias.server_name() == self.peers.server_name() {
            true => Ok(self.rooms.alias(alias).await?),
            false => Err(FederationError::NotFound("The alias is not of this server")),
        }
    }

    /// A room and those of `children` that `origin` may know of.
    ///
    /// # Errors
    /// When it may not know of the room.
    pub async fn hierarchy(
        &self,
        origin: &ServerName,
        room: &RoomId,
        children: &[OwnedRoomId],
    ) -> Result<Hierarchy, FederationError> {
        let unknown = FederationError::NotFound("There is no such room, or you may not know of it");
        let Some(Some(room)) = self.preview(origin, room).await? else { return Err(unknown) };
        let mut hierarchy = Hierarchy { room, children: Vec::new(), inaccessible: Vec::new() };
        for child in children {
            match self.preview(origin, child).await? {
                Some(Some(summary)) => hierarchy.children.push(summary),
                Some(None) => hierarchy.inaccessible.push(child.clone()),
                None => {}
            }
        }
        Ok(hierarchy)
    }

    /// `None` for a room that is not known here, `Some(None)` for one that the server may not know of.
    async fn preview(
        &self,
        origin: &ServerName,
        room: &RoomId,
    ) -> Result<Option<Option<RoomSummary>>, FederationError> {
        if !self.rooms.is_here(room).await? {
            return Ok(None);
        }
        self.rooms.whole(room).await?;
        let Some(summary) = self.history.summary(room).await? else { return Ok(None) };
        let may = self.history.allows_server(room, origin).await?
            && self.history.may_server_preview(origin, &summary).await?;
        Ok(Some(may.then_some(summary)))
    }

    /// The event of a room that is closest to a moment, on one side of it.
    ///
    /// # Errors
    /// When the server is not in the room, or there is no such event.
    pub async fn event_near(
        &self,
        origin: &ServerName,
        room: &RoomId,
        (ts, direction): (MilliSecondsSinceUnixEpoch, Direction),
    ) -> Result<(OwnedEventId, MilliSecondsSinceUnixEpoch), FederationError> {
        self.enter(origin, room).await?;
        let near = self.history.event_near(room, ts, direction).await?;
        near.ok_or(FederationError::NotFound("There is no event on that side of the time"))
    }

    /// The devices of a local user, with their keys, for `origin`.
    ///
    /// # Errors
    /// When there is no such user here.
    pub async fn device_list(
        &self,
        origin: &ServerName,
        user: &OwnedUserId,
    ) -> Result<DeviceList, FederationError> {
        self.local_only(user)?;
        if !self.accounts.is_active(user).await? {
            return Err(AccountError::NotFound("user").into());
        }
        let wanted = BTreeMap::from([(user.to_owned(), Vec::new())]);
        self.devices.note_asked(origin, wanted.keys()).await?;
        let changed = self.devices.last_change(user).await?;
        let keys = self.devices.query_keys(None, &wanted).await?;
        Ok(DeviceList { stream_id: changed.0, keys })
    }

    /// The keys of local users, for `origin`; others are left out.
    ///
    /// # Errors
    /// When too many users and devices are named, or the store fails.
    pub async fn keys(
        &self,
        origin: &ServerName,
        mut wanted: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys, FederationError> {
        check_asked(wanted.values().map(Vec::len))?;
        wanted.retain(|user, _| self.history.is_local(user));
        self.devices.note_asked(origin, wanted.keys()).await?;
        Ok(self.devices.query_keys(None, &wanted).await?)
    }

    /// Of the one-time keys that a server wants, those of local users.
    ///
    /// # Errors
    /// When too many devices are named.
    pub fn claims(
        &self,
        mut wanted: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>,
    ) -> Result<BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>, FederationError> {
        check_asked(wanted.values().map(BTreeMap::len))?;
        wanted.retain(|user, _| self.history.is_local(user));
        Ok(wanted)
    }

    fn local_only(&self, user: &UserId) -> Result<(), FederationError> {
        match self.history.is_local(user) {
            true => Ok(()),
            false => Err(FederationError::NotFound("The user is not of this server")),
        }
    }
}
