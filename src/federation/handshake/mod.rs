//! Users of other servers come into our rooms and leave them: the serving side of the handshakes.
//!
//! In the first step of a handshake the other server is told where in the room its event would stand; in
//! the second it hands the event over, which goes through [`Rooms::receive_for`](crate::room::Rooms) as
//! every other event from outside, and is passed on.

mod invite;
mod join;
mod knock;
mod leave;
mod third_party;

use ruma::{EventId, RoomId, RoomVersionId, ServerName, UserId, events::TimelineEventType};
use serde_json::value::RawValue;

pub use join::Joined;
pub use third_party::Exchange;

use super::{Federation, FederationError};
use crate::{dag::Pdu, room::Template, types::Membership};

/// An event that another server hands over for a room, with what it says beside it.
#[derive(Clone, Copy, Debug)]
pub struct HandedOver<'a> {
    /// The server.
    pub origin: &'a ServerName,
    /// The room, as the path names it.
    pub room: &'a RoomId,
    /// The event's id, as the path names it.
    pub event_id: &'a EventId,
    /// The event.
    pub pdu: &'a RawValue,
}

impl Federation {
    /// Where a join, knock or leave of `user` would stand, if the room's version is among the `supported`.
    ///
    /// # Errors
    /// When the user may not do so, or the room is not here.
    pub async fn make(
        &self,
        origin: &ServerName,
        membership: Membership,
        (room, user): (&RoomId, &UserId),
        supported: Option<&[RoomVersionId]>,
    ) -> Result<Template, FederationError> {
        own(origin, user)?;
        self.admit(origin, room, membership).await?;
        Ok(self.rooms.template(user, room, membership, supported).await?)
    }

    /// The room must be here and its access control list must let the server take part.
    async fn admit(
        &self,
        origin: &ServerName,
        room: &RoomId,
        membership: Membership,
    ) -> Result<(), FederationError> {
        if !self.rooms.is_here(room).await? {
            return Err(FederationError::NotFound("This server is not in the room"));
        }
        match membership {
            // Another server can let them in at once.
            Membership::Join | Membership::Knock if self.history.is_partial(room).await? => {
                return Err(FederationError::NotFound("This server does not know who is in the room yet"));
            }
            _ => self.rooms.whole(room).await?,
        }
        match self.history.allows_server(room, origin).await? {
            true => Ok(()),
            false => Err(FederationError::Forbidden("The room does not let your server take part")),
        }
    }

    /// The handed over event, if it sets the membership of its sender, a user of that server.
    async fn own_membership(
        &self,
        given: HandedOver<'_>,
        membership: Membership,
    ) -> Result<Pdu, FederationError> {
        self.admit(given.origin, given.room, membership).await?;
        let refuse = |why: &str| Err(FederationError::Invalid(String::from(why)));
        let Some(row) = self.history.room(given.room).await? else {
            return Err(FederationError::NotFound("This server is not in the room"));
        };
        let pdu = Pdu::parse(given.pdu.get(), row.rules());
        let pdu = pdu.map_err(|error| FederationError::Invalid(error.to_string()))?;
        if pdu.room_id() != given.room {
            return refuse("The event is of another room");
        }
        if pdu.event_id() != given.event_id {
            return refuse("The event has another id");
        }
        if *pdu.event_type() != TimelineEventType::RoomMember || pdu.membership() != Some(membership) {
            return refuse("The event does not set that membership");
        }
        if pdu.state_key() != Some(pdu.sender().as_str()) {
            return refuse("The event is not about its sender");
        }
        own(given.origin, pdu.sender())?;
        Ok(pdu)
    }
}

/// A server speaks for its own users only.
fn own(origin: &ServerName, user: &UserId) -> Result<(), FederationError> {
    match user.server_name() == origin {
        true => Ok(()),
        false => Err(FederationError::Forbidden("The user is not of your server")),
    }
}
