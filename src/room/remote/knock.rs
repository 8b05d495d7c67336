//! Knocking at a room of another server.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::membership::{create_knock_event, prepare_knock_event},
};
use serde_json::{Map, Value, value::RawValue};

use super::{
    ask::Refusals,
    offer::Offer,
    outside::{Outside, cleaned, text_of},
};
use crate::{
    dag::versions,
    history::tables::StrippedRow,
    limits::HANDSHAKE_MAX,
    peer::Bounds,
    room::{RoomError, Rooms, membership::member_content, turn::NewEvent},
    types::Membership,
};

/// Who knocks where, and what they say with it.
struct Errand {
    user: OwnedUserId,
    room: OwnedRoomId,
    content: Map<String, Value>,
}

impl Rooms {
    /// Asks to be let into a room, if need be through one of the servers `via` or another that is known to
    /// be in it.
    ///
    /// # Errors
    /// Why the user cannot knock.
    pub async fn call_at(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        self.check_open(room).await?;
        if self.is_here(room).await? {
            return self.knock(user, room, reason).await;
        }
        let profile = self.0.profiles.profile(user).await?;
        let content = member_content(Membership::Knock, Some(&profile), reason);
        let servers = self.sources(user, room, via).await?;
        let errand = Errand { user: user.to_owned(), room: room.to_owned(), content };
        let rooms = self.clone();
        let task = self.0.tasks.spawn(async move {
            let mut refusals = Refusals::default();
            for server in servers {
                match Box::pin(rooms.knock_through(&server, &errand)).await {
                    Ok(()) => return Ok(()),
                    Err(error) => refusals.note(error)?,
                }
            }
            Err(refusals.into_error())
        });
        task.await.map_err(|_| RoomError::Closed)?
    }

    async fn knock_through(&self, server: &ServerName, errand: &Errand) -> Result<(), RoomError> {
        let Errand { user, room, content } = errand;
        let peers = &self.0.peers;
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let mut request = prepare_knock_event::v1::Request::new(room.clone(), user.clone());
        request.ver = versions::SUPPORTED.to_vec();
        let answer = peers.call(server, request, bounds).await?;
        let offer = Offer::read(server, room, Some(answer.room_version), &answer.event)?;
        let event = NewEvent::state(user, "m.room.member", user.as_str(), content)?;
        let event = offer.build(self, room, event)?;
        let id = event.event_id().to_owned();
        let request = create_knock_event::v1::Request::new(room.clone(), id, event.json().to_owned());
        let answer = peers.call(server, request, bounds).await?;
        let told: Vec<Box<RawValue>> = answer.knock_room_state.iter().map(text_of).collect();
        let stripped = StrippedRow { state: cleaned(&told, &event)?, via: vec![server.to_owned()] };
        let membership = Membership::Knock;
        let (user, version, stripped) = (user.clone(), offer.version, Some(stripped));
        self.note_outside(&Outside { user, version, event, membership, stripped, farewell: None }).await
    }
}
