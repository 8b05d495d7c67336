//! Taking the content out of events whose time is over, or whose sender wants to be forgotten.
//!
//! What remains is what a redaction would leave: the event keeps its place in the graph and its id, so that the
//! room can go on and other servers can be told what it is made of. Clients do not see it any more.

use std::sync::Arc;

use ruma::{OwnedEventId, RoomId, UserId, events::TimelineEventType};

use super::{RoomError, Rooms, turn::Turn, until_settled};
use crate::{
    dag::redact::prune,
    history::{
        Status, StoredEvent,
        tables::{BACKFILLED, FORGOTTEN_TEXTS, PLACES},
    },
};

impl Rooms {
    /// Takes the content out of those of `events` that are messages of the room; how many that were.
    ///
    /// # Errors
    /// When there is no such room, or the store fails.
    pub async fn expire(&self, room: &RoomId, events: &[OwnedEventId]) -> Result<usize, RoomError> {
        until_settled!(self.try_prune(room, events, None))
    }

    /// Takes the content out of what `user` said in those of `events`, and their name and picture out of their
    /// memberships, whoever wrote these; how many events that were.
    ///
    /// # Errors
    /// When there is no such room, or the store fails.
    pub async fn erase(
        &self,
        room: &RoomId,
        events: &[OwnedEventId],
        user: &UserId,
    ) -> Result<usize, RoomError> {
        until_settled!(self.try_prune(room, events, Some(user)))
    }

    async fn try_prune(
        &self,
        room: &RoomId,
        events: &[OwnedEventId],
        of: Option<&UserId>,
    ) -> Result<usize, RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        let found = self.0.history.sound_events(events).await?;
        let goes = |event: &Arc<StoredEvent>| {
            let is_membership = *event.pdu.event_type() == TimelineEventType::RoomMember;
            let is_theirs = of.is_some_and(|of| event.pdu.sender() == of);
            // An invite shows the name and the picture of whom it invites.
            let is_about = of.is_some_and(|of| event.pdu.state_key() == Some(of.as_str()));
            let is_meant = match (event.pdu.state_key().is_some(), of) {
                (true, _) => is_membership && (is_theirs || is_about),
                (false, Some(_)) => is_theirs,
                (false, None) => true,
            };
            event.pdu.room_id() == room
                && is_meant
                && !event.is_expired()
                && event.notes.redacted_by.is_none()
        };
        let mut count = 0;
        for event in found.into_iter().flatten().filter(goes) {
            // A membership says nothing more once it has been here before.
            if event.pdu.state_key().is_some() && prune(&event.pdu, turn.rules)? == event.pdu {
                continue;
            }
            turn.prune(&event).await?;
            count += 1;
        }
        turn.close().await?;
        Ok(count)
    }
}

impl Turn {
    async fn prune(&mut self, event: &StoredEvent) -> Result<(), RoomError> {
        let is_message = event.pdu.state_key().is_none();
        if is_message {
            self.unrelate(event).await?;
        }
        self.let_go(event);
        let mut pruned = event.clone();
        pruned.pdu = prune(&event.pdu, self.rules)?;
        if is_message {
            pruned.expire();
            self.displace(event).await?;
        }
        self.rewritten.push(pruned);
        let key = (u64::from(self.rooms.moment().0), event.pdu.event_id().to_string());
        self.extra.push(Box::new(move |commit| commit.put(&FORGOTTEN_TEXTS, &key, &())));
        Ok(())
    }

    /// Takes an event that was filled in later, and of which nothing is shown any more, out of the past.
    async fn displace(&mut self, event: &StoredEvent) -> Result<(), RoomError> {
        let key = (event.pdu.event_id().to_owned(),);
        if event.status == Status::Backfilled
            && let Some((anchor, number)) = self.rooms.0.history.log().db().row(&PLACES, &key).await?
        {
            let place = (self.room_id.clone(), anchor, number);
            self.extra.push(Box::new(move |commit| {
                commit.delete(&BACKFILLED, &place);
                commit.delete(&PLACES, &key);
            }));
        }
        Ok(())
    }
}
