//! Saying something in a room.

use ruma::{OwnedDeviceId, OwnedEventId, RoomId, UserId, events::TimelineEventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    RoomError, Rooms,
    record::first_answer,
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::{log::OnceKey, store::Key};

/// A client's transaction: a repeated request takes effect once.
#[derive(Clone, Debug)]
pub struct Txn {
    /// The device.
    pub device: OwnedDeviceId,
    /// The id that the device chose.
    pub id: String,
}

/// What somebody wants to say.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event type.
    pub event_type: TimelineEventType,
    /// The content.
    pub content: Box<RawValue>,
    /// The client's transaction.
    pub txn: Option<Txn>,
}

impl Rooms {
    /// Sends an event that is not of the state; answers with its id.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub async fn send(
        &self,
        user: &UserId,
        room: &RoomId,
        message: Message,
    ) -> Result<OwnedEventId, RoomError> {
        if message.event_type == TimelineEventType::RoomRedaction
            && let Some(target) = redacts(&message.content)
        {
            return self.redact_with(user, room, &target, message).await;
        }
        let kind = format!("send/{room}/{}", message.event_type);
        let once = self.once(user, message.txn.as_ref(), &kind);
        if let Some(answer) = self.answered(once.as_ref()).await? {
            return Ok(answer);
        }
        until_settled!(self.try_send(user, room, &message, once.clone()))
    }

    async fn try_send(
        &self,
        user: &UserId,
        room: &RoomId,
        message: &Message,
        once: Option<OnceKey>,
    ) -> Result<OwnedEventId, RoomError> {
        let mut turn = Turn::begin_as_member(self, room).await?;
        let event = message.event(user);
        if let Err(error) = turn.check_relation(&event).await {
            // What it doubles may be itself, sent while this waited for the room.
            return self.answered(once.as_ref()).await?.ok_or(error);
        }
        turn.add(event).await?;
        turn.finish(once).await
    }

    /// The key under which a transaction is remembered.
    pub(super) fn once(&self, user: &UserId, txn: Option<&Txn>, kind: &str) -> Option<OnceKey> {
        txn.map(|txn| OnceKey::txn(user, &txn.device, kind, &txn.id))
    }

    /// What a transaction was answered when it took effect, if it has.
    pub(super) async fn answered(&self, once: Option<&OnceKey>) -> Result<Option<OwnedEventId>, RoomError> {
        let Some(OnceKey(key)) = once else { return Ok(None) };
        let reply = self.0.history.log().db().raw(&Key(key.clone())).await?;
        reply.map(|reply| first_answer(&reply)).transpose()
    }
}

impl Message {
    pub(super) fn event(&self, user: &UserId) -> NewEvent {
        NewEvent {
            txn: self.txn.as_ref().map(|txn| (txn.device.to_string(), txn.id.clone())),
            ..NewEvent::message(user, self.event_type.clone(), self.content.clone())
        }
    }
}

/// The event that a redaction's content names.
fn redacts(content: &RawValue) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        redacts: OwnedEventId,
    }
    serde_json::from_str::<Content>(content.get()).ok().map(|content| content.redacts)
}
