//! Users of other servers knock.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use serde_json::value::RawValue;

use super::HandedOver;
use crate::{
    federation::{Federation, FederationError},
    types::Membership,
};

impl Federation {
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
