//! The task that sends what is due.

use std::{panic::AssertUnwindSafe, sync::Weak, time::Duration};

use futures_util::FutureExt;
use ruma::{OwnedRoomId, RoomId, UserId, events::TimelineEventType};
use tokio_util::sync::CancellationToken;

use super::{DELAYED, Delayed, DelayedError, Inner, Outcome, Row, errcode, sending};
use crate::{
    account::Standing,
    limits::{DELAYED_EVENT_RETRY_MS, DELAYED_EVENT_WAIT_MAX},
    log::Commit,
    room::{Message, RoomError},
};

/// Runs until `stopping`, or until nobody holds the service.
pub(super) async fn run(inner: Weak<Inner>, stopping: CancellationToken) {
    loop {
        let Some(service) = inner.upgrade().map(Delayed) else { return };
        let next_ms = service.turn();
        // Not longer than a while: the clock of the machine may be set.
        let wait =
            next_ms.map(|next_ms| Duration::from_millis(next_ms.saturating_sub(service.now_ms()).max(1)));
        let wait = wait.unwrap_or(DELAYED_EVENT_WAIT_MAX).min(DELAYED_EVENT_WAIT_MAX);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = service.0.sooner.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Delayed {
    /// Has everything sent that is due; tells when there is more.
    fn turn(&self) -> Option<u64> {
        let due = self.0.desk.lock().line_up(self.now_ms());
        for room in due.rooms {
            self.0.tasks.spawn(self.clone().serve(room));
        }
        if !due.old.is_empty() {
            self.0.tasks.spawn(self.clone().forget(due.old));
        }
        due.next_ms
    }

    /// Does everything that is due, before it returns.
    #[cfg(test)]
    pub(in crate::room) async fn turn_through(&self) {
        let due = self.0.desk.lock().line_up(self.now_ms());
        for room in due.rooms {
            self.clone().serve(room).await;
        }
        self.clone().forget(due.old).await;
    }

    /// Sends what stands in the line of `room`, one after the other.
    async fn serve(self, room: OwnedRoomId) {
        loop {
            let next = self.0.desk.lock().next_of(&room);
            let Some(id) = next else { return };
            if self.0.stopping.is_cancelled() {
                continue;
            }
            // The line must have an end, whatever happens: others wait in it.
            let served = AssertUnwindSafe(self.serve_one(&id)).catch_unwind().await;
            let trouble = match served {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(String::from("a fault of this server")),
            };
            if let Some(error) = trouble {
                tracing::warn!(%error, %room, "a delayed event could not be sent yet");
                self.0.desk.lock().put_off(&id, self.now_ms().saturating_add(DELAYED_EVENT_RETRY_MS));
                self.0.sooner.notify_one();
            }
        }
    }

    async fn serve_one(&self, id: &str) -> Result<(), DelayedError> {
        let Some(turn) = self.0.desk.lock().turn_of(id) else { return Ok(()) };
        let _turn = turn.lock().await;
        let row = match self.row(id).await {
            Err(DelayedError::NotFound) => return Ok(()),
            row => row?,
        };
        // While it stood in the line somebody may have cancelled it, or had it wait again, or set the clock back.
        if row.end.is_none() && row.due_ms() > self.now_ms() {
            self.0.desk.lock().put_off(id, row.due_ms());
            self.0.sooner.notify_one();
            return Ok(());
        }
        match row.end {
            None => self.send(id, row).await,
            Some(_) => Ok(()),
        }
    }

    /// Sends it and writes down what came of it.
    async fn send(&self, id: &str, row: Row) -> Result<(), DelayedError> {
        let outcome = match self.try_send(id, &row).await {
            Ok(event_id) => Outcome::Sent(event_id),
            Err(DelayedError::Room(
                error @ (RoomError::Conflict | RoomError::Closed | RoomError::Store(_)),
            )) => {
                return Err(error.into());
            }
            Err(DelayedError::Room(error)) => {
                Outcome::Failed { errcode: errcode(&error).errcode().to_string(), error: error.to_string() }
            }
            Err(error) => return Err(error),
        };
        self.end(id, row, outcome).await
    }

    pub(in crate::room) async fn try_send(
        &self,
        id: &str,
        row: &Row,
    ) -> Result<ruma::OwnedEventId, DelayedError> {
        let account = self.0.accounts.user(&row.user_id).await?;
        let may_send = |standing| matches!(standing, Standing::Good | Standing::Guest { suspended: false });
        if account.is_none_or(|user| user.deactivated || !may_send(user.standing())) {
            return Err(RoomError::forbidden("The account may not send anything").into());
        }
        let (rooms, intent) = (&self.0.rooms, &row.intent);
        let sent = match &intent.state_key {
            Some(key) => {
                let place = (&intent.event_type.as_str().into(), key.as_str());
                rooms
                    .set_state_once(&row.user_id, &intent.room_id, place, (&intent.content, &sending(id)))
                    .await
            }
            None => {
                let message = Message {
                    event_type: TimelineEventType::from(intent.event_type.clone()),
                    content: intent.content.clone(),
                    txn: Some(sending(id)),
                };
                rooms.sticky(intent.sticky_ms).send(&row.user_id, &intent.room_id, message).await
            }
        };
        Ok(sent?)
    }

    /// Removes everything that was to be sent in a room, and what is known of what was: the room goes for good.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_room(&self, room: &RoomId) -> Result<(), DelayedError> {
        let ids = self.0.desk.lock().in_room(room);
        self.forget_all(ids).await
    }

    /// Removes everything of a user who has left for good, waiting or ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_user(&self, user: &UserId) -> Result<(), DelayedError> {
        let ids = self.0.desk.lock().all_of(user);
        self.forget_all(ids).await
    }

    async fn forget_all(&self, ids: Vec<String>) -> Result<(), DelayedError> {
        for id in ids {
            // Whoever sends it at this moment still writes down what came of it.
            let Some(turn) = self.0.desk.lock().turn_of(&id) else { continue };
            let _turn = turn.lock().await;
            let mut commit = Commit::new();
            commit.delete(&DELAYED, &(id.clone(),));
            self.0.rooms.0.history.log().commit(commit).await?;
            self.0.desk.lock().forget(&id);
        }
        Ok(())
    }

    /// Removes the rows of what ended long ago.
    async fn forget(self, ids: Vec<String>) {
        let mut commit = Commit::new();
        for id in &ids {
            commit.delete(&DELAYED, &(id.clone(),));
        }
        if let Err(error) = self.0.rooms.0.history.log().commit(commit).await {
            tracing::warn!(%error, "delayed events that ended long ago are kept until the next start");
            return;
        }
        let mut desk = self.0.desk.lock();
        ids.iter().for_each(|id| desk.forget(id));
    }
}
