//! One pusher's deliveries, until everything is told or the gateway cannot be reached.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use ruma::{api::push_gateway::send_event_notification::v1::Notification, push::HttpPusherData};

use super::{
    Pushers, TransportError,
    dispatch::{Errand, Outcome},
    share::Pace,
};
use crate::{
    limits::{
        COURIER_ERROR_BYTES_MAX, PUSH_AGE_MAX_MS, PUSH_PAGE_EVENTS, PUSH_QUICK_MAX, PUSH_TURN_MAX,
        PUSH_UNWRITTEN_MAX,
    },
    log::PageLimits,
    push::{Notice, PushError, PusherId, PusherRow, Trouble, Writing},
    store::StoreError,
    types::{Cursor, Position, Reader},
};

pub(super) const LIMITS: PageLimits =
    PageLimits { append: PUSH_PAGE_EVENTS, queue: 0, before_opening: false, backlog: usize::MAX };

/// Why a pusher did not get on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PusherError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It panicked.
    #[error("a mistake in this program")]
    Fault,
}

/// Whether it is worth going on.
pub(super) enum Step {
    Done,
    /// There is more, but others may want their turn.
    Later,
    /// What there is to tell is told then, in milliseconds since the epoch.
    Waits(u64),
    Gone,
}

/// What has become of the notices of a page.
enum Told {
    /// All are told; the row as it is then.
    All(PusherRow),
    /// There are more, but others may want their turn.
    Part,
    /// The pusher is gone.
    Gone,
}

/// Serves a pusher when it is its turn, and says at the desk how it went.
pub(super) async fn serve(pushers: Pushers, errand: Errand) {
    let stopping = pushers.0.stopping.clone();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = run(&pushers, errand) => {}
    }
}

async fn run(pushers: &Pushers, errand: Errand) {
    let Errand { id, cursor, line } = errand;
    let turn = pushers.0.shares.turn(&id.user_id, line).await;
    let begun = pushers.0.ports.clock.monotonic();
    let mut courier = Courier { pushers, id: &id, cursor, begun, pace: None };
    // Nobody else would say at the desk that it is not served any more.
    let outcome = AssertUnwindSafe(courier.deliver()).catch_unwind().await;
    let outcome = match outcome.unwrap_or(Err(PusherError::Fault)) {
        Ok(Step::Done) => Outcome::Told(courier.cursor),
        Ok(Step::Later) => Outcome::Later(courier.cursor),
        Ok(Step::Waits(until_ms)) => Outcome::Waits(until_ms),
        Ok(Step::Gone) => Outcome::Gone,
        Err(error) => {
            courier.pace = Some(Pace::Slow);
            courier.fail(&error).await
        }
    };
    drop(turn);
    pushers.0.desk.lock().back(&id, outcome, courier.pace);
    pushers.0.changed.notify_one();
}

pub(super) struct Courier<'a> {
    pub(super) pushers: &'a Pushers,
    pub(super) id: &'a PusherId,
    pub(super) cursor: Position,
    /// When its turn began, by the monotonic clock.
    begun: Duration,
    /// How it was answered the last time in this turn.
    pace: Option<Pace>,
}

impl Courier<'_> {
    async fn deliver(&mut self) -> Result<Step, PusherError> {
        let (push, log) = (&self.pushers.0.push, self.pushers.log());
        let reader = Reader::Pusher(self.id.user_id.clone());
        loop {
            // What comes up from here on is either in the page or noted.
            self.pushers.0.desk.lock().take_news(self.id);
            let Some(row) = push.pusher(self.id).await? else { return Ok(Step::Gone) };
            // Whoever may do nothing but log out is told nothing either.
            let Some(since) = push.told_since(&self.id.user_id).await? else { return Ok(Step::Done) };
            if row.disabled {
                return Ok(Step::Done);
            }
            let Some(row) = self.skip_to(row, since).await? else { return Ok(Step::Gone) };
            if row.writes_letters()? {
                return self.write_letter(row).await;
            }
            let Some(gateway) = row.gateway()? else { return Ok(Step::Done) };
            self.cursor = self.cursor.max(row.cursor);
            let page = log.page(&reader, Cursor::at(self.cursor), &LIMITS).await?;
            let mut notices = push.notices(&self.id.user_id, &page).await?;
            let trouble = row.trouble.as_ref();
            if trouble.is_some_and(|it| it.failing_since_ms + PUSH_AGE_MAX_MS < self.pushers.now_ms()) {
                notices.retain(|notice| self.is_fresh(notice));
            }
            let has_told = !notices.is_empty();
            let row = match self.tell_all(row, &gateway, (notices, page.to.log)).await? {
                Told::All(row) => row,
                Told::Part => return Ok(Step::Later),
                Told::Gone => return Ok(Step::Gone),
            };
            let is_last = page.to.log == log.head();
            // With a notice the gateway was told the count as well.
            if is_last && !has_told && self.tell_badge(row, &gateway, page.to.log).await?.is_none() {
                return Ok(Step::Gone);
            }
            self.cursor = page.to.log;
            if is_last && !self.pushers.0.desk.lock().take_news(self.id) {
                return Ok(Step::Done);
            }
            if self.is_turn_over() {
                return Ok(Step::Later);
            }
        }
    }

    /// Passes over what came while the account was locked.
    async fn skip_to(&self, row: PusherRow, since: Position) -> Result<Option<PusherRow>, PusherError> {
        if row.cursor >= since {
            return Ok(Some(row));
        }
        let writing = Writing { due_ms: None, ..row.writing };
        self.write(&row, PusherRow { cursor: since, writing, ..row.clone() }).await
    }

    fn is_turn_over(&self) -> bool {
        self.pushers.0.ports.clock.monotonic().saturating_sub(self.begun) >= PUSH_TURN_MAX
    }

    /// Notes how quickly was answered what was asked at `asked`, by the monotonic clock.
    pub(super) fn note_pace(&mut self, asked: Duration) {
        let took = self.pushers.0.ports.clock.monotonic().saturating_sub(asked);
        self.pace = Some(if took > PUSH_QUICK_MAX { Pace::Slow } else { Pace::Quick });
    }

    fn is_fresh(&self, notice: &Notice) -> bool {
        let sent_ms: u64 = notice.event.pdu.origin_server_ts().0.into();
        sent_ms + PUSH_AGE_MAX_MS >= self.pushers.now_ms()
    }

    /// Tells of each notice until the turn is over, and writes down after each that it has been told.
    async fn tell_all(
        &mut self,
        mut row: PusherRow,
        gateway: &HttpPusherData,
        (notices, to): (Vec<Notice>, Position),
    ) -> Result<Told, PusherError> {
        let mut notices = notices.into_iter().peekable();
        if notices.peek().is_none() {
            return Ok(Told::All(row));
        }
        let badge = self.pushers.0.push.badge(&self.id.user_id, to).await?;
        while let Some(notice) = notices.next() {
            let notification = self.notification(&row, gateway, (&notice, badge)).await?;
            // Facts of one commit share a position: only with the last of them is it done.
            let is_done = notices.peek().is_none_or(|next| next.at > notice.at);
            let cursor = if is_done { notice.at } else { row.cursor };
            match self.tell(row, (gateway, notification), (cursor, badge)).await? {
                Some(after) => row = after,
                None => return Ok(Told::Gone),
            }
            if is_done && notices.peek().is_some() && self.is_turn_over() {
                return Ok(Told::Part);
            }
        }
        Ok(Told::All(row))
    }

    /// Tells the count, if the gateway was last told another one: something was read elsewhere.
    async fn tell_badge(
        &mut self,
        row: PusherRow,
        gateway: &HttpPusherData,
        to: Position,
    ) -> Result<Option<PusherRow>, PusherError> {
        if let Some(told) = row.badge {
            let badge = self.pushers.0.push.badge(&self.id.user_id, to).await?;
            if badge != told {
                let notification = self.count_only(&row, gateway, badge);
                return self.tell(row, (gateway, notification), (to, badge)).await;
            }
        }
        match to.0.saturating_sub(row.cursor.0) > PUSH_UNWRITTEN_MAX {
            true => self.write(&row, PusherRow { cursor: to, ..row.clone() }).await,
            false => Ok(Some(row)),
        }
    }

    /// Hands over one notification and writes that down; nothing if the pusher is gone.
    async fn tell(
        &mut self,
        row: PusherRow,
        (gateway, notification): (&HttpPusherData, Notification),
        (cursor, badge): (Position, u64),
    ) -> Result<Option<PusherRow>, PusherError> {
        let asked = self.pushers.0.ports.clock.monotonic();
        let rejected = self.pushers.0.gateway.notify(&gateway.url, notification).await?;
        self.note_pace(asked);
        if rejected.contains(&self.id.pushkey) {
            tracing::info!("a push gateway wants no more for {} of {}", self.id.app_id, self.id.user_id);
            self.pushers.0.push.remove_pusher(self.id).await?;
            return Ok(None);
        }
        if row.trouble.is_some() {
            tracing::info!("the push gateway for {} of {} answers again", self.id.app_id, self.id.user_id);
        }
        let told_ms = Some(self.pushers.now_ms());
        let after = PusherRow { cursor, badge: Some(badge), told_ms, trouble: None, ..row.clone() };
        self.write(&row, after).await
    }

    /// Writes how far it has got; if the client has set the pusher anew meanwhile, into the new row.
    pub(super) async fn write(
        &self,
        before: &PusherRow,
        after: PusherRow,
    ) -> Result<Option<PusherRow>, PusherError> {
        let push = &self.pushers.0.push;
        let mut before = before.clone();
        loop {
            let next = PusherRow {
                cursor: after.cursor.max(before.cursor),
                badge: after.badge,
                told_ms: after.told_ms,
                trouble: after.trouble.clone(),
                writing: after.writing,
                ..before.clone()
            };
            if push.advance_pusher(self.id, &before, &next).await? {
                return Ok(Some(next));
            }
            match push.pusher(self.id).await? {
                Some(row) => before = row,
                None => return Ok(None),
            }
        }
    }

    /// Writes down that it failed, and when it is tried again.
    async fn fail(&self, error: &PusherError) -> Outcome {
        let now_ms = self.pushers.now_ms();
        let message = match error {
            PusherError::Transport(error) => error.to_string(),
            error => {
                tracing::error!(%error, "cannot serve a pusher of {}", self.id.user_id);
                error.to_string()
            }
        };
        let row = match self.pushers.0.push.pusher(self.id).await {
            Ok(Some(row)) => row,
            Ok(None) => return Outcome::Gone,
            Err(_) => return Outcome::Failed(now_ms + self.pause_ms(0)),
        };
        let failures = row.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        if failures == 0 {
            tracing::warn!("a push gateway for {} of {}: {message}", self.id.app_id, self.id.user_id);
        }
        let retry_at_ms = now_ms + self.pause_ms(failures);
        let trouble = Trouble {
            failing_since_ms: row.trouble.as_ref().map_or(now_ms, |trouble| trouble.failing_since_ms),
            retry_at_ms,
            failures: failures.saturating_add(1),
            last_error: message.chars().take(COURIER_ERROR_BYTES_MAX / 4).collect(),
        };
        let after = PusherRow { trouble: Some(trouble), ..row.clone() };
        match self.pushers.0.push.advance_pusher(self.id, &row, &after).await {
            // The client has set it anew, or it is gone: either shows at the next try.
            Ok(false) => Outcome::Failed(now_ms),
            Ok(true) | Err(_) => Outcome::Failed(retry_at_ms),
        }
    }

    fn pause_ms(&self, failures: u32) -> u64 {
        let settings = &self.pushers.0.settings;
        let pause = settings.first_pause.saturating_mul(1 << failures.min(20)).min(settings.longest_pause);
        // Up to a fifth more, so that gateways that fell do not get everything at once.
        let mut random = [0];
        self.pushers.0.ports.rng.fill(&mut random);
        let pause = pause + pause.mul_f64(f64::from(random[0]) / f64::from(u8::MAX) / 5.0);
        u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
    }

    async fn notification(
        &self,
        row: &PusherRow,
        gateway: &HttpPusherData,
        (notice, badge): (&Notice, u64),
    ) -> Result<Notification, StoreError> {
        let device = super::render::device((self.id, row), gateway, &notice.actions);
        let shape = gateway.format.as_ref();
        super::render::event(&self.pushers.0.history, (&self.id.user_id, notice), shape, (device, badge))
            .await
    }

    fn count_only(&self, row: &PusherRow, gateway: &HttpPusherData, badge: u64) -> Notification {
        super::render::count(super::render::device((self.id, row), gateway, &[]), badge)
    }
}
