//! Users of other servers leave, reject an invite, or take back a knock.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use super::HandedOver;
use crate::{
    federation::{Federation, FederationError},
    types::Membership,
};

impl Federation {
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
