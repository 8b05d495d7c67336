//! Leaves that are sent when the SFU says that somebody is not in a call any more, and wait for as long as they are.
//!
//! Such a leave is a delayed event of `room::delayed`, which goes on waiting by itself; here is a row that says whose
//! connection it goes by. The SFU is asked who is there every [`SFU_LOOK_EVERY`], and whenever it says by a webhook that
//! something has changed: what it answers counts, and not what the webhook says. While the SFU cannot be asked nothing is
//! done, so that a leave whose time comes meanwhile is sent, as it would be without any of this. So it is for somebody who
//! never connects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Weak,
};

use futures_util::{StreamExt, stream};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Inner, Rtc, RtcError, Seat};
use crate::{
    limits::{DELEGATED_DELAY_MS_MIN, SCAN_ROWS_MAX, SFU_LOOK_EVERY, SFU_LOOKS_AT_ONCE},
    log::Commit,
    room::{Action, DelayedError, RoomError},
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
};

/// By the names of the call and of the member at the SFU.
const LEAVES: Rows<(String, String), Row> = Rows::new(TableId::DelegatedLeave);

/// A leave that goes by a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The delayed event.
    delay_id: String,
    /// Whether the member was seen in the call.
    #[serde(default)]
    is_seen: bool,
}

/// All of them, by call and member, and the place of each by its delayed event.
#[derive(Default)]
pub(super) struct Watched {
    calls: BTreeMap<String, BTreeMap<String, Row>>,
    places: BTreeMap<String, (String, String)>,
}

impl Watched {
    fn put(&mut self, (call, member): (String, String), row: Row) {
        self.forget(&(call.clone(), member.clone()));
        self.places.insert(row.delay_id.clone(), (call.clone(), member.clone()));
        self.calls.entry(call).or_default().insert(member, row);
    }

    fn forget(&mut self, (call, member): &(String, String)) {
        let Some(members) = self.calls.get_mut(call) else { return };
        if let Some(row) = members.remove(member) {
            self.places.remove(&row.delay_id);
        }
        if members.is_empty() {
            self.calls.remove(call);
        }
    }

    fn is_still(&self, (call, member): &(String, String), row: &Row) -> bool {
        let known = self.calls.get(call).and_then(|members| members.get(member));
        known.is_some_and(|known| known.delay_id == row.delay_id)
    }
}

/// Runs until `stopping`, or until nobody holds the service.
pub(super) async fn run(inner: Weak<Inner>, stopping: CancellationToken) {
    loop {
        let Some(service) = inner.upgrade().map(Rtc) else { return };
        service.look().await;
        let is_idle = service.0.watched.lock().calls.is_empty() && service.0.seats.lock().is_empty();
        tokio::select! {
            () = stopping.cancelled() => return,
            () = service.0.sooner.notified(), if is_idle => {}
            () = tokio::time::sleep(SFU_LOOK_EVERY) => {}
        }
    }
}

impl Rtc {
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let (mut from, to) = (LEAVES.prefix(&()), LEAVES.prefix(&()).after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.0.history.log().db().scan(&LEAVES, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = LEAVES.key(last).successor();
            let mut watched = self.0.watched.lock();
            rows.into_iter().for_each(|(place, row)| watched.put(place, row));
        }
    }

    /// Has the delayed event `delay_id` of the user wait for as long as they are in the call, and sent when they are not
    /// any more. Another one of the same member is let go, to wait as it did before.
    ///
    /// # Errors
    /// When there is no such event of theirs in this room that waits, or it waits too shortly.
    pub async fn delegate(&self, seat: &Seat, delay_id: &str) -> Result<(), RtcError> {
        seat.check()?;
        self.delegate_for(&seat.user_id, seat, (seat.identity(), delay_id)).await
    }

    /// As [`Self::delegate`] for clients as those of [`Self::token_by_name`].
    ///
    /// # Errors
    /// As for [`Self::delegate`].
    pub async fn delegate_by_name(&self, seat: &Seat, delay_id: &str) -> Result<(), RtcError> {
        seat.check()?;
        self.delegate_for(&seat.user_id, seat, (seat.plain_identity(), delay_id)).await
    }

    async fn delegate_for(
        &self,
        user: &UserId,
        seat: &Seat,
        (identity, delay_id): (String, &str),
    ) -> Result<(), RtcError> {
        let event = match self.0.delayed.get(user, delay_id).await {
            Err(DelayedError::NotFound) => return Err(RtcError::NotDelayed),
            event => event?,
        };
        if event.intent.room_id != seat.room_id || event.end.is_some() {
            return Err(RtcError::NotDelayed);
        }
        if event.intent.delay_ms < DELEGATED_DELAY_MS_MIN {
            return Err(RtcError::TooShort);
        }
        let place = (seat.room_name(), identity);
        let row = Row { delay_id: delay_id.to_owned(), is_seen: false };
        let mut commit = Commit::new();
        // One event goes by one connection.
        let before = self.0.watched.lock().places.get(delay_id).cloned();
        if let Some(before) = before.as_ref().filter(|before| **before != place) {
            commit.delete(&LEAVES, before);
        }
        commit.put(&LEAVES, &place, &row);
        self.0.history.log().commit(commit).await?;
        let mut watched = self.0.watched.lock();
        before.iter().for_each(|before| watched.forget(before));
        watched.put(place, row);
        drop(watched);
        self.0.sooner.notify_one();
        Ok(())
    }

    /// Takes in what the SFU says of itself: `token` vouches for `body`.
    ///
    /// # Errors
    /// When it was not the SFU that said it.
    pub async fn heard(&self, token: &str, body: &[u8]) -> Result<(), RtcError> {
        let call = self.0.sfu.heard(token, body)?;
        if let Some(call) = call {
            self.look_at(&call).await;
        }
        Ok(())
    }

    /// Asks the SFU about every call to which somebody was let in, or in which somebody is whose leave waits for that, and
    /// does what follows.
    pub async fn look(&self) {
        let mut calls: BTreeSet<String> = self.0.watched.lock().calls.keys().cloned().collect();
        calls.extend(self.0.seats.lock().calls().cloned());
        stream::iter(&calls).for_each_concurrent(SFU_LOOKS_AT_ONCE, |call| self.look_at(call)).await;
    }

    /// Asks the SFU about one call, and does what follows.
    async fn look_at(&self, call: &str) {
        // Taken before it is asked: somebody who comes meanwhile is not taken for somebody who has gone.
        let members = self.0.watched.lock().calls.get(call).cloned().unwrap_or_default();
        if members.is_empty() && !self.0.seats.lock().calls().any(|known| known == call) {
            return;
        }
        let there = match self.0.sfu.participants(call).await {
            Ok(there) => there,
            Err(RtcError::Sfu(error)) => {
                tracing::warn!(%error, "cannot ask the LiveKit server who is in a call");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot find out who is in a call");
                return;
            }
        };
        if let Err(error) = self.clear(call, &there).await {
            tracing::warn!(%error, "cannot put out of a call yet who has left the room");
        }
        for (member, row) in members {
            let place = (call.to_owned(), member);
            if let Err(error) = self.follow(&place, row, &there).await {
                tracing::warn!(%error, "cannot look after a delegated leave yet");
            }
        }
    }

    async fn follow(
        &self,
        place: &(String, String),
        row: Row,
        there: &BTreeSet<String>,
    ) -> Result<(), RtcError> {
        if !self.0.watched.lock().is_still(place, &row) {
            return Ok(());
        }
        let Some((since_ms, delay_ms)) = self.0.delayed.waiting(&row.delay_id).await? else {
            return self.let_go(place, &row).await;
        };
        match (there.contains(&place.1), row.is_seen) {
            (true, false) => {
                self.see(place, row.clone()).await?;
                self.act(place, &row, Action::Restart).await
            }
            (true, true) if self.0.ports.clock.now_ms().saturating_sub(since_ms) >= delay_ms / 2 => {
                self.act(place, &row, Action::Restart).await
            }
            (false, true) => {
                self.act(place, &row, Action::Send).await?;
                self.let_go(place, &row).await
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Does `action`, or lets go of an event with which nothing can be done any more.
    async fn act(&self, place: &(String, String), row: &Row, action: Action) -> Result<(), RtcError> {
        match self.0.delayed.act(&row.delay_id, action).await {
            Ok(()) => Ok(()),
            // They are in trouble that passes.
            Err(
                error @ (DelayedError::Room(RoomError::Conflict | RoomError::Closed | RoomError::Store(_))
                | DelayedError::Commit(_)
                | DelayedError::Account(_)
                | DelayedError::Store(_)),
            ) => Err(error.into()),
            Err(_) => self.let_go(place, row).await,
        }
    }

    async fn see(&self, place: &(String, String), row: Row) -> Result<(), RtcError> {
        let row = Row { is_seen: true, ..row };
        let mut commit = Commit::new();
        commit.put(&LEAVES, place, &row);
        self.0.history.log().commit(commit).await?;
        let mut watched = self.0.watched.lock();
        if watched.is_still(place, &row) {
            watched.put(place.clone(), row);
        }
        Ok(())
    }

    async fn let_go(&self, place: &(String, String), row: &Row) -> Result<(), RtcError> {
        if !self.0.watched.lock().is_still(place, row) {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.delete(&LEAVES, place);
        self.0.history.log().commit(commit).await?;
        let mut watched = self.0.watched.lock();
        if watched.is_still(place, row) {
            watched.forget(place);
        }
        Ok(())
    }
}
