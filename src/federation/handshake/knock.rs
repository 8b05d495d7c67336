//! Users of other servers knock.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use ruma::{RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{HandedOver, own};
use crate::{
    federation::{Federation, FederationError},
    room::Template,
    types::Membership,
};

impl Federation {
    /// Where the knock of `user` would stand.
    ///
    /// # Errors
    /// When the user may not knock, or the room is not here.
    pub async fn make_knock(
        &self,
        origin: &ServerName,
        (room, user): (&RoomId, &UserId),
        supported: &[RoomVersionId],
    ) -> Result<Template, FederationError> {
        own(origin, user)?;
        self.admit(origin, room).await?;
        Ok(self.rooms.template(user, room, Membership::Knock, Some(supported)).await?)
    }

    /// Brings a knock into the room; answers with what the user may know of it.
    ///
    /// # Errors
    /// When it is not a knock of a user of that server, or the room does not allow it.
    pub async fn send_knock(&self, given: HandedOver<'_>) -> Result<Vec<Box<RawValue>>, FederationError> {
        let pdu = self.own_membership(given, Membership::Knock).await?;
        self.rooms.receive_for(given.origin, given.room, pdu.json().to_owned()).await?;
        Ok(self.rooms.telling_state(given.room).await?)
    }
}
