//! One application service's deliveries, for as long as the server runs.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    AppserviceCouriers, AppserviceRow, AppserviceTrouble,
    budget::Budget,
    interest::Interests,
    messages::Inbox,
    row::{self, Mark, Pending},
};
use crate::{
    account::AccountError,
    appservice::Appservice,
    delivery::TransportError,
    device::DeviceError,
    limits::{
        APPSERVICE_UNWRITTEN_MAX, COURIER_ERROR_BYTES_MAX, COURIER_REFUSALS_MAX, COURIER_STORE_PAUSE,
        COURIER_TRY_PAUSE,
    },
    log::CommitError,
    store::StoreError,
    types::Position,
};

/// Why an application service did not get on.
#[derive(Debug, thiserror::Error)]
pub(super) enum CourierError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It panicked.
    #[error("a mistake in this program")]
    Fault,
}

/// Serves until `stopping`; `heard` is told when the application service has been heard from.
pub(super) async fn run(
    couriers: AppserviceCouriers,
    appservice: Arc<Appservice>,
    (heard, stopping): (Arc<Notify>, CancellationToken),
) {
    let mut courier = Courier::new(couriers, appservice, heard);
    tokio::select! {
        () = stopping.cancelled() => {}
        () = courier.serve() => {}
    }
}

pub(super) struct Courier {
    pub(super) couriers: AppserviceCouriers,
    pub(super) appservice: Arc<Appservice>,
    pub(super) interests: Interests,
    heard: Arc<Notify>,
    /// Up to where the log has been looked at, which is not written down after every look.
    cursor: Position,
    /// The same for messages to devices.
    pub(super) messages: Mark,
    /// Inboxes whose messages did not all fit into the last transaction that was taken.
    pub(super) left: BTreeSet<Inbox>,
    /// The same of the one that is on its way.
    left_next: BTreeSet<Inbox>,
}

impl Courier {
    fn new(couriers: AppserviceCouriers, appservice: Arc<Appservice>, heard: Arc<Notify>) -> Self {
        Self {
            couriers,
            appservice,
            heard,
            interests: Interests::default(),
            cursor: Position::ZERO,
            messages: Mark::default(),
            left: BTreeSet::new(),
            left_next: BTreeSet::new(),
        }
    }

    fn id(&self) -> &str {
        &self.appservice.registration.id
    }

    async fn serve(&mut self) {
        loop {
            let mut heads = self.couriers.log().heads();
            let begun = *heads.borrow_and_update();
            let mut row = match self.load().await {
                Ok(row) => row,
                Err(error) => {
                    tracing::error!(%error, "cannot read how far the application service {} is", self.id());
                    tokio::time::sleep(COURIER_STORE_PAUSE).await;
                    continue;
                }
            };
            if let Some(trouble) = &row.trouble {
                self.wait_until(trouble.retry_at_ms).await;
            }
            let delivered = AssertUnwindSafe(self.deliver(&mut row, begun)).catch_unwind().await;
            match delivered.unwrap_or(Err(CourierError::Fault)) {
                // Nobody drops the sender before the server stops.
                Ok(()) => drop(heads.changed().await),
                Err(error) => {
                    self.go_back();
                    self.fail(row, &error).await;
                }
            }
        }
    }

    /// Begins again from what the row says: what has been looked at may lie beyond what has been taken.
    fn go_back(&mut self) {
        self.interests = Interests::default();
        (self.cursor, self.messages) = (Position::ZERO, Mark::default());
    }

    /// The row; at first it begins at the present.
    async fn load(&self) -> Result<AppserviceRow, CourierError> {
        let log = self.couriers.log();
        if let Some(row) = row::load(log, self.id()).await? {
            return Ok(row);
        }
        let row = AppserviceRow { cursor: log.head(), ..AppserviceRow::default() };
        row::keep(log, self.id(), &row).await?;
        Ok(row)
    }

    async fn wait_until(&self, retry_at_ms: u64) {
        let pause_ms = retry_at_ms.saturating_sub(self.couriers.0.ports.clock.now_ms());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            () = self.heard.notified() => {}
        }
    }

    /// Transaction after transaction, until it has everything up to `upto` at least.
    async fn deliver(&mut self, row: &mut AppserviceRow, upto: Position) -> Result<(), CourierError> {
        loop {
            self.hand_over(row).await?;
            self.cursor = self.cursor.max(row.cursor);
            let messages = row.messages.clone().unwrap_or(Mark::at(row.cursor));
            self.messages = self.messages.clone().max(messages);
            let mut page = self.page(self.cursor, Budget::after(row.refusals)).await?;
            self.left_next = std::mem::take(&mut page.left);
            let (to, is_last, is_single) = (page.to, page.is_last, page.is_single());
            let messages = page.messages.take();
            let unwritten = to.0.saturating_sub(row.cursor.0) > APPSERVICE_UNWRITTEN_MAX;
            match page.body() {
                Some(body) => {
                    let (txn_id, inboxes) = (row.next_id(), page.inboxes);
                    row.pending = Some(Pending { txn_id, to, body, is_single, messages, inboxes });
                    row::keep(self.couriers.log(), self.id(), row).await?;
                    continue;
                }
                None if unwritten => {
                    row.cursor = to;
                    row.messages = messages.clone().or(row.messages.take());
                    row::keep(self.couriers.log(), self.id(), row).await?;
                }
                None => {}
            }
            self.cursor = to;
            self.messages = messages.unwrap_or(std::mem::take(&mut self.messages));
            self.left = std::mem::take(&mut self.left_next);
            if is_last && to >= upto {
                return Ok(());
            }
        }
    }

    /// Brings the transaction that is on its way, if there is one. One that is refused will be planned anew and smaller,
    /// until it is known what is refused.
    async fn hand_over(&mut self, row: &mut AppserviceRow) -> Result<(), CourierError> {
        let Some(pending) = &row.pending else { return Ok(()) };
        match self.put(&pending.txn_id, &pending.body).await {
            Ok(()) => {}
            Err(error) if error.is_refusal && pending.is_single => self.leave_out(pending, error).await?,
            Err(error) if error.is_refusal => {
                if row.refusals == 0 {
                    tracing::info!("the application service {} gets less at once: {error}", self.id());
                }
                row.pending = None;
                row.refusals = row.refusals.saturating_add(1);
                self.go_back();
                return Ok(row::keep(self.couriers.log(), self.id(), row).await?);
            }
            Err(error) => return Err(error.into()),
        }
        if row.trouble.is_some() {
            tracing::info!("the application service {} answers again", self.id());
        }
        *row = row::settle(self.couriers.log(), self.id(), row).await?;
        self.left = std::mem::take(&mut self.left_next);
        Ok(())
    }

    async fn put(&self, txn_id: &str, body: &str) -> Result<(), TransportError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.couriers.0.transport.put(&self.appservice, txn_id, body).await
    }

    /// Gives a single item up that is refused again and again by an application service that takes transactions.
    async fn leave_out(&self, pending: &Pending, mut error: TransportError) -> Result<(), TransportError> {
        for _ in 1..COURIER_REFUSALS_MAX {
            tokio::time::sleep(COURIER_TRY_PAUSE).await;
            match self.put(&pending.txn_id, &pending.body).await {
                Err(again) if again.is_refusal => error = again,
                outcome => return outcome,
            }
        }
        // What refuses even nothing refuses us, and will have it all later.
        let nothing = format!("{}-nothing", pending.txn_id);
        self.put(&nothing, r#"{"events":[]}"#).await.map_err(|_| error.clone())?;
        let (id, item) = (self.id(), pending.describe());
        tracing::warn!(%error, "the application service {id} refuses an item, which is left out: {item}");
        Ok(())
    }

    async fn fail(&self, mut row: AppserviceRow, error: &CourierError) {
        let ports = &self.couriers.0.ports;
        let now_ms = ports.clock.now_ms();
        let before = row.trouble.as_ref();
        let failures = before.map_or(0, |trouble| trouble.failures);
        match error {
            CourierError::Transport(error) if failures == 0 => {
                tracing::warn!("the application service {} does not take its events: {error}", self.id());
            }
            CourierError::Transport(_) => {}
            error => tracing::error!(%error, "cannot serve the application service {}", self.id()),
        }
        let settings = &self.couriers.0.settings;
        let pause = settings.first_pause.saturating_mul(1 << failures.min(20)).min(settings.longest_pause);
        row.trouble = Some(AppserviceTrouble {
            failing_since_ms: before.map_or(now_ms, |trouble| trouble.failing_since_ms),
            retry_at_ms: now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            failures: failures.saturating_add(1),
            last_error: error.to_string().chars().take(COURIER_ERROR_BYTES_MAX / 4).collect(),
        });
        if let Err(error) = row::keep(self.couriers.log(), self.id(), &row).await {
            tracing::warn!(%error, "cannot write down that {} is not reached", self.id());
            tokio::time::sleep(COURIER_STORE_PAUSE).await;
        }
    }
}
