//! Rooms with many heads: events of ours that follow them.
//!
//! Whoever is in a room may send any number of events that all follow the same one. All of them are heads then, and the states after
//! them are resolved for each event that comes: so a room with more than a few heads gets an event that says nothing. Other
//! servers do it in the same way, and know its type. Each waits for a while of its own first: if all of them were to do it
//! at the same time, the room would have as many heads as servers after that.

use ruma::{OwnedUserId, RoomId, events::TimelineEventType};
use serde_json::value::RawValue;

use crate::{
    history::{
        DUMMY_EVENT,
        tables::{Part, RETRIES, RetryRow},
    },
    limits::{
        HEADS_MERGED_AFTER_MS, HEADS_MERGED_BY_MAX, HEADS_MERGED_OVER, HEADS_MERGED_SOON_MS,
        HEADS_MERGED_SOON_OVER, HEADS_MERGERS_MAX,
    },
    log::{Commit, CommitError},
    room::{Message, RoomError, Rooms},
    types::Membership,
};

impl Rooms {
    /// Has the heads of a room counted after events have come, and made fewer after a while if there are many still: soon if
    /// there are very many. Those are left to the lot too, or as many servers as follow them at once make as many heads anew.
    pub(super) async fn mind_heads(&self, room: &RoomId) -> Result<(), RoomError> {
        let row = self.0.history.room(room).await?;
        let count = row.map_or(0, |row| row.heads.len());
        if count <= HEADS_MERGED_OVER {
            return Ok(());
        }
        let key = (room.to_owned(), Part::Heads.number());
        let log = self.0.history.log();
        let (least, most) = match count > HEADS_MERGED_SOON_OVER {
            true => HEADS_MERGED_SOON_MS,
            false => HEADS_MERGED_AFTER_MS,
        };
        let before = log.db().row(&RETRIES, &key).await?;
        let latest_ms = self.now_ms() + most;
        if before.as_ref().is_some_and(|before| before.retry_at_ms <= latest_ms) {
            return Ok(());
        }
        let mut lot = [0; 8];
        self.0.ports.rng.fill(&mut lot);
        let retry_at_ms = self.now_ms() + least + u64::from_ne_bytes(lot) % (most - least);
        let mut commit = Commit::new();
        match &before {
            Some(before) => commit.expect_equals(&RETRIES, &key, before),
            None => commit.expect_absent(&RETRIES, &key),
        }
        commit.put(&RETRIES, &key, &RetryRow { retry_at_ms, ..before.unwrap_or_default() });
        match log.commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => self.0.unjudged.notify_one(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Has a room with many heads have few, if a user of ours may speak in it.
    pub(super) async fn merge_heads(&self, room: &RoomId) -> Result<(), RoomError> {
        let history = &self.0.history;
        let has_many = async || {
            let row = history.room(room).await?;
            Ok::<_, RoomError>(row.is_some_and(|row| !row.partial && row.heads.len() > HEADS_MERGED_OVER))
        };
        if !has_many().await? {
            return Ok(());
        }
        let members = history.current_members(room).await?;
        let ours = members.with(Membership::Join).filter(|user| history.is_local(user));
        let ours: Vec<OwnedUserId> = ours.take(HEADS_MERGERS_MAX).cloned().collect();
        let mut ours = ours.iter();
        let Some(mut user) = ours.next() else { return Ok(()) };
        for _ in 0..HEADS_MERGED_BY_MAX {
            let (event_type, content) =
                (TimelineEventType::from(DUMMY_EVENT), RawValue::from_string("{}".into()));
            let content = content.map_err(|error| RoomError::BadState(error.to_string()))?;
            match self.send(user, room, Message { event_type, content, txn: None }).await {
                Ok(_) if has_many().await? => {}
                Ok(_) => return Ok(()),
                Err(RoomError::Store(error)) => return Err(RoomError::Store(error)),
                Err(error) => {
                    tracing::debug!(room.id = %room, %error, "{user} cannot merge the heads of {room}");
                    match ours.next() {
                        Some(next) => user = next,
                        None => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }
}
