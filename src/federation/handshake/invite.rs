//! Users of other servers invite ours.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use ruma::{CanonicalJsonObject, EventId, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;

use crate::{
    federation::{Federation, FederationError},
    room::Invitation,
};

impl Federation {
    /// Has a user of ours know of an invite; answers with the event and our signature on it.
    ///
    /// # Errors
    /// When it is not an invite by a user of that server, or there is no such user here.
    pub async fn invite(
        &self,
        origin: &ServerName,
        named: (&RoomId, &EventId),
        invitation: Invitation,
    ) -> Result<CanonicalJsonObject, FederationError> {
        #[derive(Deserialize)]
        struct Event {
            state_key: OwnedUserId,
        }
        if !self.history.allows_server(named.0, origin).await? {
            return Err(FederationError::Forbidden("The room does not let your server take part"));
        }
        let event: Event = serde_json::from_str(invitation.event.get())
            .map_err(|_| FederationError::Invalid(String::from("The event invites nobody")))?;
        if self.history.is_local(&event.state_key) && !self.accounts.is_active(&event.state_key).await? {
            return Err(FederationError::Forbidden("There is no such user"));
        }
        Ok(self.rooms.receive_invite(origin, named, invitation).await?)
    }
}
