//! Users of other servers leave, reject an invite, or take back a knock.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use ruma::{RoomId, ServerName, UserId};

use super::{HandedOver, own};
use crate::{
    federation::{Federation, FederationError},
    room::Template,
    types::Membership,
};

impl Federation {
    /// Where the leave of `user` would stand.
    ///
    /// # Errors
    /// When there is nothing to leave, or the room is not here.
    pub async fn make_leave(
        &self,
        origin: &ServerName,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Template, FederationError> {
        own(origin, user)?;
        self.admit(origin, room).await?;
        Ok(self.rooms.template(user, room, Membership::Leave, None).await?)
    }

    /// Brings a leave into the room.
    ///
    /// # Errors
    /// When it is not a leave of a user of that server, or the room does not allow it.
    pub async fn send_leave(&self, given: HandedOver<'_>) -> Result<(), FederationError> {
        let pdu = self.own_membership(given, Membership::Leave).await?;
        self.rooms.receive_for(given.origin, given.room, pdu.json().to_owned()).await?;
        Ok(())
    }
}
