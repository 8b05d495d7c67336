//! One application service's deliveries, for as long as the server runs.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use ruma::{OwnedDeviceId, OwnedUserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    AppserviceCouriers, AppserviceRow, AppserviceTrouble,
    interest::Interests,
    row::{self, Pending},
};
use crate::{
    account::AccountError,
    appservice::Appservice,
    delivery::TransportError,
    device::DeviceError,
    limits::{APPSERVICE_UNWRITTEN_MAX, COURIER_ERROR_BYTES_MAX, COURIER_STORE_PAUSE},
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
    pub(super) messages: Position,
    /// Inboxes whose messages did not all fit into the last transaction.
    pub(super) left: Vec<(OwnedUserId, OwnedDeviceId)>,
}

impl Courier {
    fn new(couriers: AppserviceCouriers, appservice: Arc<Appservice>, heard: Arc<Notify>) -> Self {
        Self {
            couriers,
            appservice,
            heard,
            interests: Interests::default(),
            cursor: Position::ZERO,
            messages: Position::ZERO,
            left: Vec::new(),
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
                    // What has been looked at may lie beyond what has been taken.
                    self.interests = Interests::default();
                    (self.cursor, self.messages) = (Position::ZERO, Position::ZERO);
                    self.fail(row, &error).await;
                }
            }
        }
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
            if let Some(pending) = &row.pending {
                let body = Bytes::from(pending.body.clone());
                self.couriers.0.transport.put(&self.appservice, &pending.txn_id, body).await?;
                if row.trouble.is_some() {
                    tracing::info!("the application service {} answers again", self.id());
                }
                *row = row::settle(self.couriers.log(), self.id(), row).await?;
            }
            self.cursor = self.cursor.max(row.cursor);
            self.messages = self.messages.max(row.messages.unwrap_or(row.cursor));
            let mut page = self.page(self.cursor).await?;
            self.left = std::mem::take(&mut page.left);
            let (to, is_last, messages) = (page.to, page.is_last, page.messages);
            let unwritten = to.0.saturating_sub(row.cursor.0) > APPSERVICE_UNWRITTEN_MAX;
            match page.body() {
                Some(body) => {
                    // The position makes ids of different registrations of the same name differ.
                    let txn_id = format!("{}-{}", row.taken, row.cursor);
                    row.pending = Some(Pending { txn_id, to, body, messages, inboxes: page.inboxes });
                    row::keep(self.couriers.log(), self.id(), row).await?;
                    continue;
                }
                None if unwritten => {
                    row.cursor = to;
                    row.messages = messages.or(row.messages);
                    row::keep(self.couriers.log(), self.id(), row).await?;
                }
                None => {}
            }
            self.cursor = to;
            self.messages = messages.unwrap_or(self.messages);
            if is_last && to >= upto {
                return Ok(());
            }
        }
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
