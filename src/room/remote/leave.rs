//! Rejecting an invite to a room of another server, and taking back a knock there.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use std::sync::Arc;

use ruma::{
    OwnedServerName, RoomId, ServerName, UserId,
    api::federation::membership::{create_leave_event, prepare_leave_event},
};
use tokio::time::Instant;

use super::{offer::Offer, outside::Outside};
use crate::{
    dag::Pdu,
    history::{StoredEvent, tables::FarewellRow},
    limits::{CLIENT_WAIT_MAX, HANDSHAKE_MAX, LEAVE_WAIT_MAX},
    peer::{Bounds, Hedge},
    room::{RoomError, Rooms, membership::member_content, turn::NewEvent},
    types::Membership,
};

impl Rooms {
    /// Leaves a room whose events this server does not have. The user is out at once, whatever the other
    /// servers say: they are told, and that is waited for a moment only.
    pub(in crate::room) async fn leave_outside(
        &self,
        user: &UserId,
        room: &RoomId,
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let Some(before) = self.outside_since(user, room).await? else { return Ok(()) };
        let content = member_content(Membership::Leave, None, reason);
        let event = NewEvent::state(user, "m.room.member", user.as_str(), &content)?;
        let servers = self.sources(user, room, &[]).await.unwrap_or_default();
        let (rooms, owner, id) = (self.clone(), user.to_owned(), room.to_owned());
        let (said, since, asked) = (content.clone(), before.clone(), servers.clone());
        let telling = self.0.tasks.spawn(async move {
            let event = || NewEvent::state(&owner, "m.room.member", owner.as_str(), &said);
            rooms.tell_leave((&owner, &id), &since, (&asked, event)).await
        });
        let told = tokio::time::timeout(LEAVE_WAIT_MAX, telling).await;
        let (event, farewell) = match told {
            Ok(Ok(Some(event))) => (event, None),
            // What is still under way may succeed; to be told twice does no harm.
            _ => (
                Offer::after(&before.pdu, before.version.clone())?.build(self, room, event)?,
                Some(self.farewell(&before, servers, content)),
            ),
        };
        self.depart(user, &before, (event, farewell)).await
    }

    /// As [`Self::leave_outside`], without waiting for anybody: other servers are told afterwards.
    pub(in crate::room) async fn leave_outside_untold(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<(), RoomError> {
        let Some(before) = self.outside_since(user, room).await? else { return Ok(()) };
        let content = member_content(Membership::Leave, None, None);
        let event = NewEvent::state(user, "m.room.member", user.as_str(), &content)?;
        let event = Offer::after(&before.pdu, before.version.clone())?.build(self, room, event)?;
        let servers = self.sources(user, room, &[]).await.unwrap_or_default();
        let farewell = self.farewell(&before, servers, content);
        let farewell = FarewellRow { retry_at_ms: farewell.since_ms, ..farewell };
        self.depart(user, &before, (event, Some(farewell))).await
    }

    /// The event since which the user is invited or knocks; none if they have left.
    async fn outside_since(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        let standing = match self.0.history.standing(user, room).await? {
            Some(standing) if standing.membership == Membership::Leave => return Ok(None),
            Some(standing) if matches!(standing.membership, Membership::Invite | Membership::Knock) => {
                standing
            }
            _ => return Err(RoomError::forbidden("You are not in the room")),
        };
        let before = self.0.history.event(&standing.event_id).await?;
        before.map(Some).ok_or(RoomError::NotFound("This server does not know the room"))
    }

    /// Has the user be out by `event`; other servers are yet to hear it if there is a farewell.
    async fn depart(
        &self,
        user: &UserId,
        before: &StoredEvent,
        (event, farewell): (Pdu, Option<FarewellRow>),
    ) -> Result<(), RoomError> {
        let membership = Membership::Leave;
        let (user, version) = (user.to_owned(), before.version.clone());
        self.note_outside(&Outside { user, version, event, membership, stripped: None, farewell }).await?;
        self.0.farewells.notify_one();
        Ok(())
    }

    /// Tells the first server that listens; the event that it took.
    async fn tell_leave(
        &self,
        (user, room): (&UserId, &RoomId),
        before: &Arc<StoredEvent>,
        (servers, event): (&[OwnedServerName], impl Fn() -> Result<NewEvent, RoomError>),
    ) -> Option<Pdu> {
        let request = prepare_leave_event::v1::Request::new(room.to_owned(), user.to_owned());
        let mut hedge = Hedge::new(&self.0.peers, servers.iter().cloned());
        let until = Instant::now() + CLIENT_WAIT_MAX;
        while let Some((server, template)) = self.next_template(&mut hedge, &request, until).await {
            let done = match template {
                Ok(template) => self.leave_with(&server, (before, template), event().ok()?).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(event) => return Some(event),
                Err(error) => tracing::info!(
                    room.id = %room, user.id = %user, server.name = %server, %error,
                    "{server} was not told that {user} left {room}"
                ),
            }
        }
        None
    }

    pub(super) async fn leave_through(
        &self,
        server: &ServerName,
        (user, room): (&UserId, &RoomId),
        before: &StoredEvent,
        event: NewEvent,
    ) -> Result<Pdu, RoomError> {
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let request = prepare_leave_event::v1::Request::new(room.to_owned(), user.to_owned());
        let template = self.0.peers.call(server, request, bounds).await?;
        self.leave_with(server, (before, template), event).await
    }

    async fn leave_with(
        &self,
        server: &ServerName,
        (before, answer): (&StoredEvent, prepare_leave_event::v1::Response),
        event: NewEvent,
    ) -> Result<Pdu, RoomError> {
        let room = before.pdu.room_id();
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let version = answer.room_version.or_else(|| Some(before.version.clone()));
        let event = Offer::read(server, room, version, &answer.event)?.build(self, room, event)?;
        let id = event.event_id().to_owned();
        let request = create_leave_event::v2::Request::new(room.to_owned(), id, event.json().to_owned());
        self.0.peers.call(server, request, bounds).await?;
        Ok(event)
    }
}
