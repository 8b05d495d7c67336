//! One server's deliveries, until it has everything or cannot be reached.

use std::{collections::VecDeque, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use ruma::{OwnedServerName, OwnedTransactionId, OwnedUserId};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Couriers, DeliveryError, DestinationStatus, Transaction, TransportError, backoff,
    dispatch::{Errand, Return},
    lists::Met,
    parcel::Part,
};
use crate::{
    device::TOLD,
    limits::{
        COURIER_BACKLOG_LOOK_EVERY, COURIER_BACKLOG_MAX, COURIER_QUEUE_MAX, COURIER_REFUSALS_MAX,
        COURIER_STORE_PAUSE, COURIER_STRANGERS_KEPT_MS, COURIER_TRIES, COURIER_TRY_PAUSE,
        TRANSACTION_PDUS_MAX,
    },
    log::{Commit, CommitError, PageLimits},
    types::{Cursor, Lane, Position, Reader, random_string},
};

/// What one delivery carries.
const LIMITS: PageLimits = PageLimits {
    append: TRANSACTION_PDUS_MAX,
    queue: COURIER_QUEUE_MAX,
    before_opening: false,
    backlog: COURIER_BACKLOG_MAX,
};

/// What the next page may carry: how much waits is looked at now and then.
fn limits_of(pages: usize) -> PageLimits {
    match pages.is_multiple_of(COURIER_BACKLOG_LOOK_EVERY) {
        true => LIMITS,
        false => PageLimits { backlog: usize::MAX, ..LIMITS },
    }
}

/// Runs an errand, and says at the desk how it went.
pub(super) async fn serve(couriers: Couriers, errand: Errand) {
    // Closed only when the server stops.
    let Some(_permit) = couriers.permit(&errand).await else { return };
    let Errand { server, is_poked, trouble, .. } = errand;
    let mut courier =
        Courier { couriers: &couriers, server: &server, trouble, is_poked, waiting: Met::new() };
    let outcome = tokio::select! {
        () = couriers.0.stopping.cancelled() => return,
        // Nobody else would say at the desk that it is not served any more.
        outcome = AssertUnwindSafe(courier.deliver()).catch_unwind() => outcome.unwrap_or(Err(DeliveryError::Fault)),
    };
    let (mut is_owed, mut rests_until_ms) = (outcome.is_err(), 0);
    match outcome {
        Ok(()) => {}
        Err(DeliveryError::Transport(error)) => {
            courier.fail(&error).await;
            is_owed = !courier.gives_up().await;
        }
        Err(DeliveryError::Fault) => {
            tracing::error!("what is delivered to {server} cannot be made ready");
            let message = String::from("it cannot be made ready");
            courier.fail(&TransportError { message, retry_after: None, is_refusal: false }).await;
        }
        Err(error) => {
            tracing::error!(%error, "cannot read or write what is delivered to {server}");
            let pause = u64::try_from(COURIER_STORE_PAUSE.as_millis()).unwrap_or(u64::MAX);
            rests_until_ms = couriers.now_ms().saturating_add(pause);
        }
    }
    let Courier { is_poked, trouble, .. } = courier;
    couriers.0.desk.lock().back(&server, Return { is_poked, trouble, is_owed, rests_until_ms });
    couriers.0.changed.notify_one();
}

impl Couriers {
    /// Waits until the errand may be run. Whoever was reached the last time, or has just reached us, does not wait
    /// for those who may not be there.
    async fn permit(&self, errand: &Errand) -> Option<OwnedSemaphorePermit> {
        let is_proven = match (&errand.trouble, errand.was_heard) {
            (_, true) => true,
            (Some(_), false) => false,
            (None, false) => self.log().is_served(&errand.server).await.unwrap_or_default(),
        };
        let proven = || self.0.proven.clone().acquire_owned();
        if is_proven {
            return proven().await.ok();
        }
        tokio::select! {
            permit = self.0.unproven.clone().acquire_owned() => permit.ok(),
            permit = async { errand.heard.notified().await; proven().await } => permit.ok(),
        }
    }
}

/// What serves one server.
pub(super) struct Courier<'a> {
    pub(super) couriers: &'a Couriers,
    pub(super) server: &'a OwnedServerName,
    trouble: Option<DestinationStatus>,
    pub(super) is_poked: bool,
    /// Of whom is told with the next parcel that is sent anyway.
    pub(super) waiting: Met,
}

impl Courier<'_> {
    /// Delivers page after page. Ends when a page is empty and nothing has come up meanwhile.
    async fn deliver(&mut self) -> Result<(), DeliveryError> {
        let log = self.couriers.log();
        let reader = Reader::Server(self.server.clone());
        let mut cursor = log.cursor_of(self.server).await?;
        let mut pages = 0;
        loop {
            // What comes up from here on is either in the page or noted.
            self.couriers.0.desk.lock().take_news(self.server);
            let page = log.page(&reader, cursor, &limits_of(pages)).await?;
            pages = if page.slices.iter().any(|slice| slice.gap) { 0 } else { pages + 1 };
            let to = page.to;
            let is_last = to == Cursor::at(log.head());
            let looked_ms = self.couriers.now_ms();
            let mut parcel = self.parcel(page).await?;
            let told = std::mem::take(&mut parcel.told);
            let typing = std::mem::take(&mut parcel.typing);
            self.waiting = std::mem::take(&mut parcel.waiting);
            let carries = !parcel.is_empty();
            if carries || self.is_poked {
                self.hand_over(parcel.parts()).await?;
                self.is_poked = false;
                let now_ms = self.couriers.now_ms();
                for room in typing {
                    self.couriers.0.typing.told(self.server, room, now_ms);
                }
                self.note_told(told).await?;
                // What waits is found again from where it is.
                if self.waiting.is_empty() {
                    log.ack(&reader, to).await?;
                }
                self.note_reached().await?;
            }
            if is_last {
                self.couriers.0.desk.lock().has_all(self.server, looked_ms);
            }
            cursor = to;
            if is_last && !carries && !self.couriers.0.desk.lock().take_news(self.server) {
                if self.trouble.is_none() {
                    return Ok(());
                }
                // What could not be delivered may be owed no more, as who has ceased to type. That the server is
                // there is not said by that; but one that has nothing to do with us any more is no trouble.
                match log.shares_a_room(self.server).await? {
                    true => self.is_poked = true,
                    false => return Ok(self.forget_trouble().await?),
                }
            }
        }
    }

    /// Puts transactions one after another. One that is refused is halved, until it is known what is refused.
    async fn hand_over(&mut self, parts: Vec<Part>) -> Result<(), TransportError> {
        let mut parts = VecDeque::from(parts);
        while let Some(part) = parts.pop_front() {
            match self.put(&part).await {
                Ok(()) => {}
                Err(error) if error.is_refusal => match part.halves() {
                    Ok(halves) => halves.into_iter().rev().for_each(|half| parts.push_front(half)),
                    Err(part) => self.leave_out(&part, error).await?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives a single item up that is refused again and again by a server that takes transactions.
    async fn leave_out(&mut self, part: &Part, mut error: TransportError) -> Result<(), TransportError> {
        for _ in 1..COURIER_REFUSALS_MAX {
            tokio::time::sleep(COURIER_TRY_PAUSE).await;
            match self.put(part).await {
                Err(again) if again.is_refusal => error = again,
                outcome => return outcome,
            }
        }
        // Whoever refuses even nothing refuses us, and will have it all later.
        self.put(&Part::default()).await.map_err(|_| error.clone())?;
        tracing::warn!(%error, "{} refuses an item, which is left out: {}", self.server, part.kind());
        Ok(())
    }

    /// Puts one transaction, which is tried some times as it is.
    async fn put(&self, part: &Part) -> Result<(), TransportError> {
        let id = OwnedTransactionId::from(random_string(&*self.couriers.0.ports.rng, 20));
        let Part { pdus, edus } = part.clone();
        let transaction = Transaction { id, made_ms: self.couriers.now_ms(), pdus, edus };
        let mut tries = 0;
        while let Err(error) = self.couriers.0.transport.put(self.server, &transaction).await {
            tries += 1;
            // A server in trouble is not worth more than one try at a time.
            let is_final = self.trouble.is_some() || error.retry_after.is_some() || error.is_refusal;
            if tries >= COURIER_TRIES || is_final {
                return Err(error);
            }
            tokio::time::sleep(COURIER_TRY_PAUSE).await;
        }
        Ok(())
    }

    /// Says durably whose devices the server has been told of.
    async fn note_told(&self, told: Vec<(OwnedUserId, Position)>) -> Result<(), CommitError> {
        if told.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        for (user, at) in told {
            commit.put(&TOLD, &(self.server.clone(), user), &at.0);
        }
        self.couriers.log().commit(commit).await.map(drop)
    }

    async fn note_reached(&mut self) -> Result<(), CommitError> {
        if let Some(trouble) = &self.trouble {
            tracing::info!("{} is reached again", self.server);
            let now_ms = self.couriers.now_ms();
            self.couriers.0.desk.lock().others_may_be_back(trouble.failing_since_ms, now_ms);
            self.couriers.0.changed.notify_one();
        }
        self.forget_trouble().await
    }

    async fn forget_trouble(&mut self) -> Result<(), CommitError> {
        match self.trouble.take() {
            Some(_) => backoff::keep(self.couriers.log(), self.server, None).await,
            None => Ok(()),
        }
    }

    /// Drops what waits for a server that was not reached for long and has nothing to do with us: anybody can make up
    /// a name and have something sent there. Whether there is nothing to be delivered then.
    async fn gives_up(&mut self) -> bool {
        let (log, now) = (self.couriers.log(), self.couriers.now_ms());
        if self.couriers.0.transport.denies(self.server) {
            // What happens in rooms takes no room here; what waits for single devices would take more and more.
            if let Err(error) = self.drop_queued().await {
                tracing::error!(%error, "what waits for {} cannot be dropped", self.server);
            }
            return false;
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.failing_since_ms);
        if now.saturating_sub(since) < COURIER_STRANGERS_KEPT_MS
            || log.shares_a_room(self.server).await.unwrap_or(true)
        {
            return false;
        }
        tracing::warn!("{} was not reached for long, and shares no room: what waits is dropped", self.server);
        let dropped = match self.drop_queued().await {
            Ok(()) => self.forget_trouble().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &dropped {
            tracing::error!(%error, "what waits for {} cannot be dropped", self.server);
        }
        dropped.is_ok()
    }

    async fn drop_queued(&self) -> Result<(), CommitError> {
        let (log, mut commit) = (self.couriers.log(), Commit::new());
        commit.drop_queued(&Lane::Outbox(self.server.clone()), log.head());
        log.commit(commit).await.map(drop)
    }

    async fn fail(&mut self, error: &TransportError) {
        let (settings, ports) = (&self.couriers.0.settings, &self.couriers.0.ports);
        let now = (ports.clock.now_ms(), &*ports.rng);
        let status = DestinationStatus::after(self.trouble.as_ref(), error, settings, now);
        if status.failures == 1 {
            tracing::info!("{} cannot be reached: {error}", self.server);
        }
        if let Err(error) = backoff::keep(self.couriers.log(), self.server, Some(&status)).await {
            tracing::warn!(%error, "cannot write down that {} is not reached", self.server);
        }
        self.trouble = Some(status);
    }
}
