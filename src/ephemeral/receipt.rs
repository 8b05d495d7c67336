//! Read receipts and the fully-read marker.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{json, value::to_raw_value};

use super::{Ephemeral, EphemeralError};
use crate::{
    account::DataChange,
    history::StoredEvent,
    limits::RECEIPT_ATTEMPTS_MAX,
    log::{Commit, CommitError},
    store::StoreError,
    types::{Fact, Lane, Position, ReceiptKind, Retention},
};

/// To what part of a room a receipt applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Thread {
    /// To all of it.
    #[default]
    Unthreaded,
    /// To what is in no thread.
    Main,
    /// To the thread with this root.
    Root(OwnedEventId),
}

impl Thread {
    fn id(&self) -> Option<String> {
        match self {
            Self::Unthreaded => None,
            Self::Main => Some(String::from("main")),
            Self::Root(root) => Some(root.to_string()),
        }
    }
}

/// Where the fully-read marker may be moved to. Receipts only ever move forward.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4446>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// Forward: a client that lags behind does not move it back.
    #[default]
    Forward,
    /// Wherever the user wants it.
    Anywhere,
}

/// How far a user has read, as one request says it.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    /// `m.fully_read`.
    pub fully_read: Option<OwnedEventId>,
    /// Where that may be moved to.
    pub moves: Moves,
    /// `m.read`.
    pub read: Option<OwnedEventId>,
    /// `m.read.private`.
    pub read_private: Option<OwnedEventId>,
    /// To what part of the room the receipts apply.
    pub thread: Thread,
}

impl Ephemeral {
    /// Moves a user's receipts and fully-read marker, all in one commit. What would move back and may not
    /// stays where it is.
    ///
    /// # Errors
    /// When the user is not in the room, or an event is unknown or not of the thread.
    pub async fn set_markers(
        &self,
        room: &RoomId,
        user: &UserId,
        markers: &Markers,
    ) -> Result<(), EphemeralError> {
        self.only_members(room, user).await?;
        if markers.fully_read.is_some() && markers.thread != Thread::Unthreaded {
            return Err(EphemeralError::Invalid("The fully-read marker knows no threads"));
        }
        let receipts =
            [(ReceiptKind::Read, &markers.read), (ReceiptKind::ReadPrivate, &markers.read_private)];
        for _ in 0..RECEIPT_ATTEMPTS_MAX {
            let mut commit = Commit::new();
            if let Some(event_id) = &markers.fully_read {
                let event = self.event_of(room, event_id).await?;
                self.put_fully_read(&mut commit, user, (&event, markers.moves)).await?;
            }
            for (kind, event_id) in &receipts {
                if let Some(event_id) = event_id {
                    let event = self.event_of(room, event_id).await?;
                    self.check_thread(&event, &markers.thread).await?;
                    let now = self.0.ports.clock.now_ms();
                    self.put_receipt(&mut commit, user, (*kind, &markers.thread), (&event, now)).await?;
                }
            }
            if commit.is_empty() {
                return Ok(());
            }
            match self.0.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => {
                    other?;
                    return self.note_activity(user).await;
                }
            }
        }
        // Others have just moved the same receipt as often: theirs stands.
        Ok(())
    }

    /// The event of a receipt. The specification has receipts point to events of the room and says nothing
    /// of others, so one that is not here is what the common error code says: not found. It is not kept for
    /// later, because a receipt for an event that never comes would hold back all that come after it.
    pub(super) async fn event_of(
        &self,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<std::sync::Arc<StoredEvent>, EphemeralError> {
        let event = self.0.history.event(event_id).await?;
        event
            .filter(|event| event.pdu.room_id() == room && event.is_shown())
            .ok_or(EphemeralError::NotFound("event"))
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
    pub(super) async fn check_thread(
        &self,
        event: &StoredEvent,
        thread: &Thread,
    ) -> Result<(), EphemeralError> {
        let fits = match thread {
            Thread::Unthreaded => true,
            Thread::Main => self.0.history.thread_of(event).await?.is_none(),
            Thread::Root(root) => {
                event.pdu.event_id() == root || self.0.history.thread_of(event).await?.as_ref() == Some(root)
            }
        };
        match fits {
            true => Ok(()),
            false => Err(EphemeralError::Invalid("The event is not of this thread")),
        }
    }

    pub(super) async fn put_receipt(
        &self,
        commit: &mut Commit,
        user: &UserId,
        (kind, thread): (ReceiptKind, &Thread),
        (event, ts): (&StoredEvent, u64),
    ) -> Result<(), StoreError> {
        let room_id: OwnedRoomId = event.pdu.room_id().to_owned();
        let lane = match kind {
            ReceiptKind::Read => Lane::Room(room_id.clone()),
            ReceiptKind::ReadPrivate => Lane::Account(user.to_owned()),
        };
        let fact = Fact::Receipt {
            kind,
            user_id: user.to_owned(),
            room_id: room_id.clone(),
            thread_id: thread.id(),
            event_id: event.pdu.event_id().to_owned(),
            ts,
        };
        let Retention::Register(key) = fact.retention() else { return Ok(()) };
        let before = self.0.log.register(&lane, &key).await?;
        if let Some((_, Fact::Receipt { event_id, .. })) = &before {
            let stands_at = self.0.history.event(event_id).await?.map_or(Position::ZERO, |old| old.position);
            if stands_at >= event.position {
                return Ok(());
            }
        }
        commit.expect_register(&lane, &key, before.map(|(at, _)| at));
        if kind == ReceiptKind::Read && self.has_others(&room_id, user).await? {
            commit.fact(Lane::Egress(room_id), fact.clone());
        }
        commit.fact(lane, fact);
        Ok(())
    }

    async fn put_fully_read(
        &self,
        commit: &mut Commit,
        user: &UserId,
        (event, moves): (&StoredEvent, Moves),
    ) -> Result<(), EphemeralError> {
        let (room, event_type) = (event.pdu.room_id(), String::from("m.fully_read"));
        let lane = Lane::Account(user.to_owned());
        let fact = Fact::AccountData { room_id: Some(room.to_owned()), event_type: event_type.clone() };
        let Retention::Register(key) = fact.retention() else { return Ok(()) };
        // Read before the marker itself: whatever changes in between is noticed.
        let at = self.0.log.register(&lane, &key).await?.map(|(at, _)| at);
        let stands = self.0.accounts.data(user, Some(room), &event_type).await?;
        let stands = stands.and_then(|content| serde_json::from_str::<FullyRead>(content.get()).ok());
        if let Some(FullyRead { event_id }) = stands
            && let Some(old) = self.0.history.event(&event_id).await?
        {
            let may_move = match moves {
                Moves::Forward => self.0.history.place(&old).await? < self.0.history.place(event).await?,
                Moves::Anywhere => old.pdu.event_id() != event.pdu.event_id(),
            };
            if !may_move {
                return Ok(());
            }
        }
        let content = json!({ "event_id": event.pdu.event_id() });
        let content = to_raw_value(&content).map_err(StoreError::engine)?;
        commit.expect_register(&lane, &key, at);
        let change = DataChange { room_id: Some(room.to_owned()), event_type, content };
        Ok(self.0.accounts.put_data(commit, user, change)?)
    }
}

/// The content of `m.fully_read`.
#[derive(Deserialize)]
struct FullyRead {
    event_id: OwnedEventId,
}
