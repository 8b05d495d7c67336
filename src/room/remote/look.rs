//! Finding rooms of other servers by their aliases.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId,
    api::federation::query::get_room_information,
};

use crate::{
    limits::{DIRECTORY_SERVERS_MAX, ID_BYTES_MAX, LOOK_UP_MAX},
    peer::Bounds,
    room::{RoomError, Rooms},
};

impl Rooms {
    /// The room that an id or an alias means, and servers that are in it: those `via` of which it is known
    /// already, then those that the alias's server names.
    ///
    /// # Errors
    /// When it means none, or the alias's server cannot be asked.
    pub async fn find(
        &self,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>), RoomError> {
        let Err(alias) = <&RoomId>::try_from(room).map_err(|alias| alias.to_owned()) else {
            return Ok((self.resolve(room).await?, via.to_vec()));
        };
        let (room, named) = self.alias(&alias).await?;
        let mut servers = via.to_vec();
        servers.extend(named);
        Ok((room, servers))
    }

    /// Where an alias points, and servers that are in that room.
    ///
    /// # Errors
    /// When there is no such alias, or its server cannot be asked.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>), RoomError> {
        if alias.as_bytes().len() > ID_BYTES_MAX {
            return Err(RoomError::invalid("The alias is too long"));
        }
        let history = &self.0.history;
        if alias.server_name() == history.server() {
            let room = self.resolve(alias.into()).await?;
            let mut servers = history.servers_by_members(&room).await?;
            if let Some(ours) = servers.iter().position(|server| server == history.server()) {
                servers[..=ours].rotate_right(1);
            }
            servers.truncate(DIRECTORY_SERVERS_MAX);
            return Ok((room, servers));
        }
        let bounds = Bounds { timeout: LOOK_UP_MAX, ..Bounds::default() };
        let request = get_room_information::v1::Request::new(alias.to_owned());
        let mut answer = self.0.peers.call(alias.server_name(), request, bounds).await?;
        answer.servers.truncate(DIRECTORY_SERVERS_MAX);
        Ok((answer.room_id, answer.servers))
    }
}
