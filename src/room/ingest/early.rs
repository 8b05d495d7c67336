//! What is taken into a room before all its members are known: users of ours who are put out of the room are out of it.
//!
//! Whoever does that is believed to be what the event itself says, unless more is known and if their server is said to be in the
//! room; that holds until the members are known, and what was believed is in no state after that. Everything else waits.

use std::sync::Arc;

use ruma::{RoomId, ServerName, UserId, events::TimelineEventType};

use super::{Batch, Given, fetch::Fetch, take::Way};
use crate::{
    dag::{Pdu, Signed, StateId, Verdict},
    history::{RoomRow, Status},
    room::{RoomError, Rooms, turn::Turn, until_settled},
    types::Membership,
};

impl Rooms {
    /// Takes those events that need not wait, if they are allowed as far as can be seen. The others, which are not judged,
    /// are given back.
    pub(super) async fn take_early(
        &self,
        (origin, room): (&ServerName, &RoomId),
        row: &Arc<RoomRow>,
        events: Vec<Signed>,
    ) -> Result<Vec<Pdu>, RoomError> {
        let (early, late): (Vec<Signed>, Vec<Signed>) =
            events.into_iter().partition(|event| self.puts_ours_out(event.pdu()));
        let mut waiting: Vec<Pdu> = late.iter().map(|event| event.pdu().clone()).collect();
        if early.is_empty() {
            return Ok(waiting);
        }
        let mut batch = Batch::new(self, room, row.clone());
        batch.extend(early.iter().cloned());
        if let Err(error) = Fetch::new(&mut batch, origin).await?.complete_auth().await {
            tracing::debug!(room.id = %room, %error, "could not get what stands behind who is put out");
        }
        for event in &early {
            match self.take_one_early(room, event).await {
                Ok(true) => {}
                // What is beside it must not be lost for it.
                Ok(false) | Err(RoomError::Conflict) => waiting.push(event.pdu().clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(waiting)
    }

    /// Whether a user of ours is kicked or banned. Those in the room may answer no question about it after that.
    fn puts_ours_out(&self, pdu: &Pdu) -> bool {
        put_out(pdu).is_some_and(|user| self.0.history.is_local(user))
    }

    async fn take_one_early(&self, room: &RoomId, event: &Signed) -> Result<bool, RoomError> {
        if !until_settled!(self.try_believe(room, event))?
            || !until_settled!(self.try_take_early(room, event))?
        {
            return Ok(false);
        }
        if !self.is_here(room).await? {
            // There are no members to wait for any more.
            self.complete_soon(room);
        }
        Ok(true)
    }

    /// Takes the sender of an event for what it says, unless more is known; whether the event is allowed then.
    async fn try_believe(&self, room: &RoomId, event: &Signed) -> Result<bool, RoomError> {
        let mut turn = Turn::begin_at_rest(self, room).await?;
        let before = turn.row.state;
        // Of whoever is not in the room nothing is urgent.
        let is_urgent = match put_out(event.pdu()) {
            Some(user) => self.0.history.membership_in(before, user).await? == Some(Membership::Join),
            None => false,
        };
        if !is_urgent {
            return Ok(false);
        }
        let known = turn.with_sender(event.pdu()).await?;
        turn.row.state = known;
        let given = Given { before: Some(known), ..Given::default() };
        if !turn.allows_early(event, &given).await? {
            return Ok(false);
        }
        if known != before {
            turn.move_state(known).await?;
            turn.close().await?;
        }
        Ok(true)
    }

    async fn try_take_early(&self, room: &RoomId, event: &Signed) -> Result<bool, RoomError> {
        let mut turn = Turn::begin_at_rest(self, room).await?;
        let given = Given { before: Some(turn.row.state), ..Given::default() };
        let is_allowed = turn.allows_early(event, &given).await?;
        if is_allowed {
            turn.take(event, &given, Way::Live { relay: false }).await?;
            turn.close().await?;
        }
        Ok(is_allowed)
    }
}

/// Who is kicked or banned by an event, if somebody is.
fn put_out(pdu: &Pdu) -> Option<&UserId> {
    let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok())?;
    let is_put_out =
        user != pdu.sender() && matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban));
    is_put_out.then_some(user)
}

impl Turn {
    /// The current state, with the sender of `pdu` as the event says where nothing is known of them. Nobody's server gets
    /// to see the room by this.
    async fn with_sender(&mut self, pdu: &Pdu) -> Result<StateId, RoomError> {
        let state = self.row.state;
        let is_inside = self.is_inside(&pdu.sender().server_name().to_owned()).await?;
        if !is_inside || self.rooms.0.history.membership_in(state, pdu.sender()).await?.is_some() {
            return Ok(state);
        }
        let named = self.rooms.0.history.events(pdu.auth_events()).await?.into_iter().flatten();
        let of_sender = named.filter(|named| {
            named.status != Status::Rejected
                && *named.pdu.event_type() == TimelineEventType::RoomMember
                && named.pdu.state_key() == Some(pdu.sender().as_str())
        });
        match of_sender.last() {
            Some(member) => self.with_event(state, &member.pdu).await,
            None => Ok(state),
        }
    }

    /// Whether an event is allowed as far as can be seen, in a room whose members are still not all known.
    async fn allows_early(&mut self, event: &Signed, given: &Given) -> Result<bool, RoomError> {
        if !self.row.partial {
            return Ok(false);
        }
        let is_allowed = matches!(self.verdict(event, given).await?, (Verdict::Accepted(_), Some(_)));
        Ok(is_allowed && !self.is_discouraged(event.pdu()).await?)
    }
}
