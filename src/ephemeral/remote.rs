//! What users of other servers type, read and do, as their servers tell it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use ruma::{OwnedEventId, RoomId, UserId};

use super::{Ephemeral, EphemeralError, Said, Thread};
use crate::{
    limits::{PRESENCE_REMOTE_MS, RECEIPT_ATTEMPTS_MAX, STATUS_BYTES_MAX, TYPING_REMOTE_MS},
    log::{Commit, CommitError},
    types::ReceiptKind,
};

/// A receipt as another server tells it.
#[derive(Clone, Debug)]
pub struct RemoteReceipt {
    /// The event that was read.
    pub event_id: OwnedEventId,
    /// To what part of the room it applies.
    pub thread: Thread,
    /// When, in milliseconds since the epoch, as the server says.
    pub ts: u64,
}

/// Presence as another server tells it.
#[derive(Clone, Debug)]
pub struct RemotePresence {
    /// The state.
    pub said: Said,
    /// Milliseconds since the last activity.
    pub last_active_ago: u64,
    /// What the user says of themselves.
    pub status_msg: Option<String>,
}

impl Ephemeral {
    /// The user of another server begins or ends to type in `room`.
    ///
    /// # Errors
    /// When the user is not in the room, as far as its members are known.
    pub async fn receive_typing(
        &self,
        room: &RoomId,
        user: &UserId,
        typing: bool,
    ) -> Result<(), EphemeralError> {
        self.only_joined(room, user).await?;
        let until = typing.then(|| self.now_ms() + TYPING_REMOTE_MS);
        let changed = self.0.typing.set(room, user, (self.now_ms(), until));
        self.0.sooner.notify_one();
        match changed {
            true => self.tell_typing(room).await,
            false => Ok(()),
        }
    }

    /// The user of another server has read up to an event.
    ///
    /// # Errors
    /// When the user is not in the room, or the event is unknown or not of the thread.
    pub async fn receive_receipt(
        &self,
        room: &RoomId,
        user: &UserId,
        receipt: &RemoteReceipt,
    ) -> Result<(), EphemeralError> {
        self.only_joined(room, user).await?;
        let event = self.event_of(room, &receipt.event_id).await?;
        self.check_thread(&event, &receipt.thread).await?;
        for _ in 0..RECEIPT_ATTEMPTS_MAX {
            let mut commit = Commit::new();
            let kind = (ReceiptKind::Read, &receipt.thread);
            self.put_receipt(&mut commit, user, kind, (&event, receipt.ts)).await?;
            if commit.is_empty() {
                return Ok(());
            }
            match self.0.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        Ok(())
    }

    /// The user of another server is present, or is not.
    ///
    /// # Errors
    /// When the message is too long or the log fails.
    pub async fn receive_presence(
        &self,
        user: &UserId,
        presence: RemotePresence,
    ) -> Result<(), EphemeralError> {
        let RemotePresence { said, last_active_ago, status_msg } = presence;
        if status_msg.as_ref().is_some_and(|text| text.len() > STATUS_BYTES_MAX) {
            return Err(EphemeralError::Invalid("The status message is too long"));
        }
        self.change(user, |person, now| {
            person.is_said(said, (last_active_ago, status_msg), now, PRESENCE_REMOTE_MS)
        })
        .await
    }

    async fn only_joined(&self, room: &RoomId, user: &UserId) -> Result<(), EphemeralError> {
        match self.0.history.may_be_joined(room, user).await? {
            true => Ok(()),
            false => Err(EphemeralError::NotJoined),
        }
    }
}
