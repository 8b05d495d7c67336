//! Other servers that have not heard yet that a user of ours rejects their invite, or takes back a knock.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{
        StoredEvent,
        tables::{FAREWELLS, FarewellRow},
    },
    limits::{
        COURIER_STORE_PAUSE, FAREWELL_IDLE_MAX, FAREWELL_KEPT_MS, FAREWELL_PAUSE_FIRST, FAREWELL_PAUSE_MAX,
        FAREWELLS_AT_ONCE,
    },
    log::{Commit, CommitError},
    room::{RoomError, Rooms, turn::NewEvent},
    store::BoxFuture,
    types::Membership,
    upkeep,
};

/// A user and the room that they have left.
type Place = (OwnedUserId, OwnedRoomId);

impl Rooms {
    /// Has other servers told of rejected invites that could not be told at once, until `stopping`.
    pub fn keep_saying_farewell(&self, stopping: CancellationToken) {
        let (rooms, until) = (self.clone(), stopping.clone());
        let saying = move || rooms.clone().go_on_saying_farewell(until.clone());
        self.0.tasks.spawn(upkeep::keep("the telling of rejected invites", stopping, saying));
    }

    async fn go_on_saying_farewell(self, stopping: CancellationToken) {
        loop {
            let pause = self.say_farewells().await.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read who is to be told of rejected invites");
                COURIER_STORE_PAUSE
            });
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = self.0.farewells.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tells those whose time has come. How long there is nothing to do after that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn say_farewells(&self) -> Result<Duration, RoomError> {
        let db = self.0.history.log().db();
        let now = self.0.ports.clock.now_ms();
        let due = db.select(&FAREWELLS, &(), |_, row| row.retry_at_ms <= now).await?.into_iter();
        let attempts = due.map(|(place, row)| async move {
            if let Err(error) = self.say_again(&place, &row).await {
                tracing::error!(room.id = %place.1, %error, "cannot say again that {} has left {}", place.0, place.1);
            }
        });
        let attempts: Vec<_> = attempts.map(|attempt| Box::pin(attempt) as BoxFuture<'_, ()>).collect();
        stream::iter(attempts).buffer_unordered(FAREWELLS_AT_ONCE).collect::<()>().await;
        let (now, mut next) = (self.0.ports.clock.now_ms(), FAREWELL_IDLE_MAX);
        db.select(&FAREWELLS, &(), |_, row| {
            next = next.min(Duration::from_millis(row.retry_at_ms.saturating_sub(now)));
            false
        })
        .await?;
        Ok(next.max(COURIER_STORE_PAUSE))
    }

    /// What is to be told later to `servers`, where nobody could be told at once.
    pub(super) fn farewell(
        &self,
        before: &StoredEvent,
        servers: Vec<OwnedServerName>,
        content: Map<String, Value>,
    ) -> FarewellRow {
        let since_ms = self.0.ports.clock.now_ms();
        FarewellRow {
            before: before.pdu.event_id().to_owned(),
            servers,
            content,
            since_ms,
            retry_at_ms: since_ms.saturating_add(millis(FAREWELL_PAUSE_FIRST)),
            failures: 0,
        }
    }

    async fn say_again(&self, place: &Place, row: &FarewellRow) -> Result<(), RoomError> {
        let mut commit = Commit::new();
        commit.expect_equals(&FAREWELLS, place, row);
        match self.is_owed(place, row).await? {
            true => {
                let pause =
                    FAREWELL_PAUSE_FIRST.saturating_mul(1 << row.failures.min(16)).min(FAREWELL_PAUSE_MAX);
                let retry_at_ms = self.0.ports.clock.now_ms().saturating_add(millis(pause));
                let failures = row.failures.saturating_add(1);
                commit.put(&FAREWELLS, place, &FarewellRow { retry_at_ms, failures, ..row.clone() });
            }
            false => commit.delete(&FAREWELLS, place),
        }
        match self.0.history.log().commit(commit).await {
            // The user has been invited again, and has left again, meanwhile.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the other servers once more; whether that is to be done again.
    async fn is_owed(&self, (user, room): &Place, row: &FarewellRow) -> Result<bool, RoomError> {
        let standing = self.0.history.standing(user, room).await?;
        let is_out = standing.is_some_and(|standing| standing.membership == Membership::Leave);
        let before = self.0.history.event(&row.before).await?;
        let (true, Some(before)) = (is_out, before) else { return Ok(false) };
        let mut is_unreached = false;
        for server in &row.servers {
            let event = NewEvent::state(user, "m.room.member", user.as_str(), &row.content)?;
            match self.leave_through(server, (user, room), &before, event).await {
                Ok(_) => return Ok(false),
                Err(error @ (RoomError::Store(_) | RoomError::Closed)) => return Err(error),
                Err(error) => {
                    is_unreached |= matches!(error, RoomError::Unreachable(_));
                    tracing::debug!(
                        room.id = %room, %error, "{server} is still not told that {user} left {room}"
                    );
                }
            }
        }
        // Who answers and refuses knows of no invite.
        Ok(is_unreached && row.since_ms.saturating_add(FAREWELL_KEPT_MS) > self.0.ports.clock.now_ms())
    }
}

fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
