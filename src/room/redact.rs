//! Redacting an event.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, UserId, events::TimelineEventType};
use serde_json::json;

use super::{Message, RoomError, Rooms, Txn, turn::Turn, until_settled};
use crate::{
    dag::redact::prune,
    history::{StoredEvent, tables::REDACTIONS},
    log::OnceKey,
    types::Membership,
};

impl Rooms {
    /// Redacts `target`; answers with the id of the redaction.
    ///
    /// # Errors
    /// Why it cannot be redacted.
    pub async fn redact(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &EventId,
        (reason, txn): (Option<String>, Option<Txn>),
    ) -> Result<OwnedEventId, RoomError> {
        let content = match reason {
            Some(reason) => json!({ "reason": reason }),
            None => json!({}),
        };
        let content = serde_json::value::to_raw_value(&content)
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        let message = Message { event_type: TimelineEventType::RoomRedaction, content, txn };
        self.redact_with(user, room, target, message).await
    }

    /// Whether that transaction of a user's has redacted `target`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_redacted(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &EventId,
        txn: &Txn,
    ) -> Result<bool, RoomError> {
        let once = self.once(user, Some(txn), &kind_of(room, target));
        Ok(self.answered(once.as_ref()).await?.is_some())
    }

    /// Who of this server may redact what `sender` said in a room: `preferred` if they may, else `sender`, else the most
    /// powerful of its users there.
    ///
    /// # Errors
    /// When nobody may, or the store fails.
    pub async fn redactor(
        &self,
        room: &RoomId,
        sender: &UserId,
        preferred: Option<&UserId>,
    ) -> Result<OwnedUserId, RoomError> {
        self.whole(room).await?;
        let history = &self.0.history;
        let members = history.current_members(room).await?;
        let turn = Turn::begin_as_member(self, room).await?;
        let power = turn.power().await?;
        let needed = power.to_send(&TimelineEventType::RoomRedaction, None);
        let may = |user: &UserId| {
            history.is_local(user)
                && members.is_joined(user)
                && power.user(user) >= needed
                && (user == sender || power.may_redact_others(user))
        };
        if let Some(user) = preferred.into_iter().chain([sender]).find(|user| may(user)) {
            return Ok(user.to_owned());
        }
        let able = members.with(Membership::Join).filter(|user| may(user));
        let most = able.max_by_key(|user| power.user(user));
        most.cloned().ok_or_else(|| RoomError::forbidden("No user of this server may redact that"))
    }

    pub(super) async fn redact_with(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &EventId,
        message: Message,
    ) -> Result<OwnedEventId, RoomError> {
        let once = self.once(user, message.txn.as_ref(), &kind_of(room, target));
        if let Some(answer) = self.answered(once.as_ref()).await? {
            return Ok(answer);
        }
        until_settled!(self.try_redact(user, room, target, (&message, once.clone())))
    }

    async fn try_redact(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &EventId,
        (message, once): (&Message, Option<OnceKey>),
    ) -> Result<OwnedEventId, RoomError> {
        let mut turn = Turn::begin_as_member(self, room).await?;
        let found = self.0.history.event(target).await?;
        if let Some(found) = &found {
            turn.check_redaction(user, found).await?;
        }
        let mut event = message.event(user);
        event.redacts = Some(target.to_owned());
        let redaction = turn.add(event).await?;
        match found {
            // The first redaction is the one that clients are told of.
            Some(found) if found.notes.redacted_by.is_some() => {}
            Some(found) => {
                turn.unrelate(&found).await?;
                turn.let_go(&found);
                let mut redacted: StoredEvent = (*found).clone();
                redacted.pdu = prune(&found.pdu, turn.rules)?;
                redacted.notes.redacted_by = Some(redaction);
                turn.untell(&found.pdu, &redacted.pdu).await?;
                turn.rewritten.push(redacted);
            }
            None => {
                let key = (target.to_owned(), redaction);
                turn.extra.push(Box::new(move |commit| commit.put(&REDACTIONS, &key, &())));
            }
        }
        turn.finish(once).await
    }
}

/// What the transaction of a redaction is for.
fn kind_of(room: &RoomId, target: &EventId) -> String {
    format!("redact/{room}/{target}")
}

impl Turn {
    /// Since room version 3 the rules let every redaction pass and only ask later whether it takes
    /// effect; a user of ours is told at once.
    async fn check_redaction(&self, user: &UserId, target: &StoredEvent) -> Result<(), RoomError> {
        if target.pdu.room_id() != self.room_id {
            return Err(RoomError::NotFound("There is no such event in the room"));
        }
        if *target.pdu.event_type() == TimelineEventType::RoomCreate {
            return Err(RoomError::forbidden("The create event cannot be redacted"));
        }
        // An access list without entries denies every server.
        if *target.pdu.event_type() == TimelineEventType::RoomServerAcl {
            return Err(RoomError::forbidden("The access list of servers cannot be redacted"));
        }
        match target.pdu.sender() == user || self.power().await?.may_redact_others(user) {
            true => Ok(()),
            false => Err(RoomError::forbidden("You may not redact what others have sent")),
        }
    }
}
