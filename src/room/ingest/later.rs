//! What could not be judged when it came, because keys or events that it needs could not be had.
//!
//! It is kept as it came, over restarts, and tried again with ever longer pauses; until then nothing is said
//! about it. What came as news is received again. What belongs to a state that was taken without it is checked
//! as an outlier, and amends the states that were made meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{ReceiveFailure, Results, outlier, take::Way};
use crate::{
    dag::{Pdu, Signed},
    history::{
        Status,
        tables::{PARTIAL, Part, RETRIES, RetryRow, UNJUDGED, UnjudgedRow},
    },
    limits::{
        COURIER_STORE_PAUSE, OUTLIERS_PER_COMMIT, SCAN_ROWS_MAX, UNJUDGED_IDLE_MAX, UNJUDGED_KEPT_MS,
        UNJUDGED_NEWS_MAX, UNJUDGED_PAUSE_FIRST, UNJUDGED_PAUSE_MAX, UNJUDGED_ROOMS_AT_ONCE,
        UNJUDGED_STATE_MAX,
    },
    log::{Commit, CommitError},
    room::{RoomError, Rooms},
    store::BoxFuture,
    upkeep,
};

/// Events that were kept, by their ids.
pub(super) type Kept = BTreeMap<OwnedEventId, UnjudgedRow>;

impl Rooms {
    /// Has what could not be judged tried again when its time has come, until `stopping`.
    pub fn keep_judging(&self, stopping: CancellationToken) {
        let (rooms, until) = (self.clone(), stopping.clone());
        let judging = move || rooms.clone().go_on_judging(until.clone());
        self.0.tasks.spawn(upkeep::keep("the judging of what came too early", stopping, judging));
    }

    async fn go_on_judging(self, stopping: CancellationToken) {
        if let Err(error) = self.complete_all_soon().await {
            tracing::error!(%error, "cannot read which rooms lack members");
        }
        loop {
            let pause = self.judge_due().await.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read which events are to be judged");
                COURIER_STORE_PAUSE
            });
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = self.0.unjudged.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// After a start nobody waits: what a question was put off for may be over.
    async fn complete_all_soon(&self) -> Result<(), RoomError> {
        let rows = self.0.history.log().db().range(&PARTIAL, &(), SCAN_ROWS_MAX).await?;
        rows.iter().for_each(|((room,), _)| self.complete_soon(room));
        Ok(())
    }

    /// Tries everything again whose time has come. How long there is nothing to do after that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn judge_due(&self) -> Result<Duration, RoomError> {
        let db = self.0.history.log().db();
        let now = self.now_ms();
        let due = db.select(&RETRIES, &(), |_, retry| retry.retry_at_ms <= now).await?.into_iter();
        let attempts = due.map(|((room, part), retry)| async move {
            // One room's trouble is not that of the others.
            if let Err(error) = self.try_again(room.clone(), part, retry.clone()).await {
                tracing::error!(room.id = %room, %error, "cannot try again what {room} lacks");
                let mut commit = Commit::new();
                let key = (room, part);
                commit.expect_equals(&RETRIES, &key, &retry);
                commit.put(&RETRIES, &key, &after_failure(&retry, self.now_ms()));
                self.0.history.log().commit_later(commit);
            }
        });
        let attempts: Vec<_> = attempts.map(|attempt| Box::pin(attempt) as BoxFuture<'_, ()>).collect();
        stream::iter(attempts).buffer_unordered(UNJUDGED_ROOMS_AT_ONCE).collect::<()>().await;
        let (now, mut next) = (self.now_ms(), None::<u64>);
        db.select(&RETRIES, &(), |_, retry| {
            let left = retry.retry_at_ms.saturating_sub(now);
            next = Some(next.map_or(left, |next| next.min(left)));
            false
        })
        .await?;
        // A row that changed meanwhile may be due at once; but never again and again.
        let next = next.map(|ms| Duration::from_millis(ms).max(COURIER_STORE_PAUSE));
        Ok(next.unwrap_or(UNJUDGED_IDLE_MAX).min(UNJUDGED_IDLE_MAX))
    }

    /// Keeps events of `room` that `origin` gave and that could not be judged. Whether there was room for all of them.
    pub(super) async fn keep_unjudged(
        &self,
        (room, origin): (&RoomId, &ServerName),
        (part, in_state): (Part, bool),
        pdus: &[Pdu],
    ) -> Result<bool, RoomError> {
        if pdus.is_empty() {
            return Ok(true);
        }
        let db = self.0.history.log().db();
        let bound = if part == Part::News { UNJUDGED_NEWS_MAX } else { UNJUDGED_STATE_MAX };
        let prefix = (room.to_owned(), part.number());
        let known = db.range(&UNJUDGED, &prefix, bound).await?.into_iter();
        let known: BTreeSet<OwnedEventId> = known.map(|((_, _, id), _)| id).collect();
        let fresh: Vec<_> = pdus.iter().filter(|pdu| !known.contains(pdu.event_id())).collect();
        let places = bound.saturating_sub(known.len());
        let is_all = fresh.len() <= places;
        let mut commit = Commit::new();
        for (number, pdu) in fresh.into_iter().take(places).enumerate() {
            if number > 0 && number.is_multiple_of(OUTLIERS_PER_COMMIT) {
                self.0.history.log().commit(std::mem::take(&mut commit)).await?;
            }
            let key = (room.to_owned(), part.number(), pdu.event_id().to_owned());
            let (origin, text) = (origin.to_owned(), pdu.json().to_owned());
            let row = UnjudgedRow { origin, text, since_ms: self.now_ms(), in_state };
            commit.put(&UNJUDGED, &key, &row);
        }
        if commit.is_empty() {
            return Ok(is_all);
        }
        let before = db.row(&RETRIES, &prefix).await?;
        let soon = self.now_ms().saturating_add(millis(UNJUDGED_PAUSE_FIRST));
        let before = before.unwrap_or(RetryRow { retry_at_ms: soon, ..RetryRow::default() });
        let mut mark = [0; 8];
        self.0.ports.rng.fill(&mut mark);
        let (retry_at_ms, mark) = (before.retry_at_ms.min(soon), u64::from_ne_bytes(mark));
        commit.put(&RETRIES, &prefix, &RetryRow { retry_at_ms, mark, ..before });
        self.0.history.log().commit(commit).await?;
        self.0.unjudged.notify_one();
        Ok(is_all)
    }

    /// Before `pdus` are judged: tries again what they stand on, if it waits for its judgement.
    pub(super) async fn look_again_for(
        &self,
        room: &RoomId,
        pdus: &BTreeMap<OwnedEventId, Pdu>,
    ) -> Result<(), RoomError> {
        let db = self.0.history.log().db();
        let part = Part::State.number();
        let Some(retry) = db.row(&RETRIES, &(room.to_owned(), part)).await? else { return Ok(()) };
        let named: BTreeSet<&OwnedEventId> = pdus.values().flat_map(Pdu::auth_events).collect();
        let keys: Vec<_> = named.into_iter().map(|id| (room.to_owned(), part, id.clone())).collect();
        match db.rows(&UNJUDGED, &keys).await?.iter().any(Option::is_some) {
            true => self.try_state_again(room, retry).await,
            false => Ok(()),
        }
    }

    /// Tries what is kept of one room.
    async fn try_again(&self, room: OwnedRoomId, part: u64, retry: RetryRow) -> Result<(), RoomError> {
        match part {
            part if part == Part::Amendment.number() => self.forget_amendments(&room, &retry).await,
            part if part == Part::State.number() => self.try_state_again(&room, retry).await,
            part if part == Part::Members.number() => self.complete_again(&room, retry).await,
            part if part == Part::Heads.number() => {
                self.merge_heads(&room).await?;
                self.note_tried((&room, Part::Heads), (&Kept::new(), BTreeSet::new()), retry).await
            }
            _ => {
                let kept = self.kept(&room, Part::News).await?;
                let left = match self.is_here(&room).await? {
                    true => self.receive_open_again(&room, &kept).await?,
                    false => BTreeSet::new(),
                };
                self.note_tried((&room, Part::News), (&kept, left), retry).await
            }
        }
    }

    async fn try_state_again(&self, room: &RoomId, retry: RetryRow) -> Result<(), RoomError> {
        let kept = self.kept(room, Part::State).await?;
        let left = match self.is_here(room).await? {
            true => self.check_again(room, &kept).await?,
            // Whatever it would be in the room, this server has no part in it any more.
            false => BTreeSet::new(),
        };
        self.note_tried((room, Part::State), (&kept, left), retry).await
    }

    async fn kept(&self, room: &RoomId, part: Part) -> Result<Kept, RoomError> {
        let bound = UNJUDGED_NEWS_MAX.max(UNJUDGED_STATE_MAX);
        let db = self.0.history.log().db();
        let rows = db.range(&UNJUDGED, &(room.to_owned(), part.number()), bound).await?.into_iter();
        Ok(rows.map(|((_, _, id), row)| (id, row)).collect())
    }

    /// Takes note that what was `kept` has been tried and `left` could not be judged.
    pub(super) async fn note_tried(
        &self,
        (room, part): (&RoomId, Part),
        (kept, mut left): (&Kept, BTreeSet<OwnedEventId>),
        retry: RetryRow,
    ) -> Result<(), RoomError> {
        let key = (room.to_owned(), part.number());
        let now = self.now_ms();
        left.retain(|id| kept.get(id).is_some_and(|row| row.since_ms.saturating_add(UNJUDGED_KEPT_MS) > now));
        let mut commit = Commit::new();
        for id in kept.keys().filter(|id| !left.contains(*id)) {
            commit.delete(&UNJUDGED, &(room.to_owned(), part.number(), id.clone()));
        }
        match left.is_empty() {
            true => commit.delete(&RETRIES, &key),
            false => commit.put(&RETRIES, &key, &after_failure(&retry, now)),
        }
        commit.expect_equals(&RETRIES, &key, &retry);
        match self.0.history.log().commit(commit).await {
            // More has come meanwhile: what is done is found to be done the next time.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes note that something has been tried in vain.
    pub(super) async fn put_off(
        &self,
        (room, part): (&RoomId, Part),
        retry: RetryRow,
    ) -> Result<(), RoomError> {
        let key = (room.to_owned(), part.number());
        let mut commit = Commit::new();
        commit.expect_equals(&RETRIES, &key, &retry);
        commit.put(&RETRIES, &key, &after_failure(&retry, self.now_ms()));
        match self.0.history.log().commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::receive_again`], but for what has been judged before the members of the room are known: it is not judged
    /// again before that.
    async fn receive_open_again(
        &self,
        room: &RoomId,
        kept: &Kept,
    ) -> Result<BTreeSet<OwnedEventId>, RoomError> {
        let mut open = kept.clone();
        let mut judged = BTreeSet::new();
        if self.0.history.is_partial(room).await? {
            let ids: Vec<OwnedEventId> = kept.keys().cloned().collect();
            let stored = self.0.history.events(&ids).await?.into_iter().flatten();
            judged.extend(
                stored.filter(|event| event.states.is_some()).map(|event| event.pdu.event_id().to_owned()),
            );
            open.retain(|id, _| !judged.contains(id));
        }
        let mut left = self.receive_again(room, &open).await?;
        left.append(&mut judged);
        Ok(left)
    }

    /// Receives events again that came as news; those that cannot be judged yet.
    async fn receive_again(&self, room: &RoomId, kept: &Kept) -> Result<BTreeSet<OwnedEventId>, RoomError> {
        let mut by_origin: BTreeMap<&OwnedServerName, Vec<Box<RawValue>>> = BTreeMap::new();
        for row in kept.values() {
            by_origin.entry(&row.origin).or_default().push(row.text.clone());
        }
        let mut left = BTreeSet::new();
        for (origin, texts) in by_origin {
            let (mut results, way) = (Results::new(), Way::Live { relay: false });
            match self.try_receive((origin, room), texts, way, &mut results).await {
                Ok(_) => {
                    left.extend(results.into_iter().filter(|(_, result)| is_open(result)).map(|(id, _)| id));
                }
                Err(error @ RoomError::Store(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(room.id = %room, %error, "could not take events into {room}");
                    let of_origin = kept.iter().filter(|(_, row)| row.origin == *origin);
                    left.extend(of_origin.map(|(id, _)| id.clone()));
                }
            }
        }
        Ok(left)
    }

    /// Checks events again that belong to a state; those that cannot be judged yet.
    async fn check_again(&self, room: &RoomId, kept: &Kept) -> Result<BTreeSet<OwnedEventId>, RoomError> {
        let Some(row) = self.0.history.room(room).await? else { return Ok(BTreeSet::new()) };
        let texts = kept.values().map(|row| row.text.clone()).collect();
        let checked = self.check(room, row.rules(), texts).await?;
        let waiting = checked.unverified.iter().chain(checked.events.iter().map(Signed::pdu));
        let mut left: BTreeSet<OwnedEventId> = waiting.map(|pdu| pdu.event_id().to_owned()).collect();
        outlier::store(self, room, row, checked.events).await?;
        let ids: Vec<OwnedEventId> = kept.keys().cloned().collect();
        let mut late = Vec::new();
        for event in self.0.history.events(&ids).await?.into_iter().flatten() {
            let id = event.pdu.event_id();
            left.remove(id);
            // Whatever has a place in the graph is in the state if it belongs there.
            if event.status == Status::Outlier && kept.get(id).is_some_and(|row| row.in_state) {
                late.push(id.to_owned());
            }
        }
        self.amend(room, late).await?;
        Ok(left)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.ports.clock.now_ms()
    }
}

/// Whether nothing was said about an event.
fn is_open(result: &Result<(), ReceiveFailure>) -> bool {
    matches!(
        result,
        Err(ReceiveFailure::Missing
            | ReceiveFailure::Unverified(_)
            | ReceiveFailure::Waiting
            | ReceiveFailure::Trouble(_))
    )
}

/// When to try again what has failed once more.
fn after_failure(retry: &RetryRow, now_ms: u64) -> RetryRow {
    let pause = UNJUDGED_PAUSE_FIRST.saturating_mul(1 << retry.failures.min(16));
    let retry_at_ms = now_ms.saturating_add(millis(pause.min(UNJUDGED_PAUSE_MAX)));
    RetryRow { failures: retry.failures.saturating_add(1), retry_at_ms, ..retry.clone() }
}

fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
