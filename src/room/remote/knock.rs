//! Knocking at a room of another server.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::membership::{create_knock_event, prepare_knock_event},
};
use serde_json::{Map, Value, value::RawValue};
use tokio::time::Instant;

use super::{
    ask::Refusals,
    offer::Offer,
    outside::{Outside, cleaned, text_of},
};
use crate::{
    dag::versions,
    history::tables::StrippedRow,
    limits::{CLIENT_WAIT_MAX, HANDSHAKE_MAX},
    peer::{Bounds, Hedge},
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
        self.check_welcome(user, room).await?;
        if self.is_here(room).await? {
            return self.knock(user, room, reason).await;
        }
        let profile = self.0.profiles.profile(user).await?;
        let content = member_content(Membership::Knock, Some(&profile), reason);
        let servers = self.sources(user, room, via).await?;
        let errand = Errand { user: user.to_owned(), room: room.to_owned(), content };
        let rooms = self.clone();
        let task = self.0.tasks.spawn(async move {
            let mut request = prepare_knock_event::v1::Request::new(errand.room.clone(), errand.user.clone());
            request.ver = versions::SUPPORTED.to_vec();
            let mut refusals = Refusals::default();
            let mut hedge = Hedge::new(&rooms.0.peers, servers);
            let until = Instant::now() + CLIENT_WAIT_MAX;
            while let Some((server, template)) = rooms.next_template(&mut hedge, &request, until).await {
                let done = match template {
                    Ok(template) => Box::pin(rooms.knock_through((&server, until), &errand, template)).await,
                    Err(error) => Err(error),
                };
                match done {
                    Ok(()) => return Ok(()),
                    Err(error) => refusals.note(error)?,
                }
            }
            Err(refusals.into_error())
        });
        task.await.map_err(|_| RoomError::Closed)?
    }

    async fn knock_through(
        &self,
        (server, until): (&ServerName, Instant),
        errand: &Errand,
        answer: prepare_knock_event::v1::Response,
    ) -> Result<(), RoomError> {
        let Errand { user, room, content } = errand;
        let offer = Offer::read(server, room, Some(answer.room_version), &answer.event)?;
        let event = NewEvent::state(user, "m.room.member", user.as_str(), content)?;
        let event = offer.build(self, room, event)?;
        let id = event.event_id().to_owned();
        let request = create_knock_event::v1::Request::new(room.clone(), id, event.json().to_owned());
        let left = until.saturating_duration_since(Instant::now());
        let bounds = Bounds { timeout: HANDSHAKE_MAX.min(left), ..Bounds::default() };
        let answer = self.0.peers.call(server, request, bounds).await?;
        let told: Vec<Box<RawValue>> = answer.knock_room_state.iter().map(text_of).collect();
        let stripped = StrippedRow { state: cleaned(&told, &event)?, via: vec![server.to_owned()] };
        let membership = Membership::Knock;
        let (user, version, stripped) = (user.clone(), offer.version, Some(stripped));
        self.note_outside(&Outside { user, version, event, membership, stripped, farewell: None }).await
    }
}
