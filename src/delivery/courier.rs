//! One server's deliveries, until it has everything or cannot be reached.

use ruma::{OwnedServerName, OwnedTransactionId};

use super::{
    Couriers, DeliveryError, DestinationStatus, Transaction, TransportError, backoff, dispatch::Errand,
    render::Parcel,
};
use crate::{
    device::TOLD,
    limits::{
        COURIER_BACKLOG_LOOK_EVERY, COURIER_BACKLOG_MAX, COURIER_QUEUE_MAX, COURIER_TRIES, COURIER_TRY_PAUSE,
        TRANSACTION_PDUS_MAX,
    },
    log::{Commit, CommitError, PageLimits},
    types::{Cursor, Reader, random_string},
};

/// What one delivery carries.
pub(super) const LIMITS: PageLimits = PageLimits {
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
    let Errand { server, is_poked, trouble } = errand;
    // Closed only when the server stops.
    let Ok(_permit) = couriers.0.at_once.clone().acquire_owned().await else { return };
    let mut courier = Courier { couriers: &couriers, server: &server, trouble, is_poked };
    let outcome = tokio::select! {
        () = couriers.0.stopping.cancelled() => return,
        outcome = courier.deliver() => outcome,
    };
    let trouble = match outcome {
        Ok(()) => None,
        Err(error) => Some(courier.fail(error).await),
    };
    couriers.0.desk.lock().back(&server, trouble);
    couriers.0.changed.notify_one();
}

/// What serves one server.
pub(super) struct Courier<'a> {
    pub(super) couriers: &'a Couriers,
    pub(super) server: &'a OwnedServerName,
    trouble: Option<DestinationStatus>,
    is_poked: bool,
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
            let parcel = self.parcel(page).await?;
            let carries = !parcel.is_empty();
            if carries || self.is_poked {
                self.hand_over(&parcel).await?;
                self.is_poked = false;
                self.settle(&parcel, &reader, to).await?;
            }
            cursor = to;
            if is_last && !carries && !self.couriers.0.desk.lock().take_news(self.server) {
                // What could not be delivered may be owed no more, as who has ceased to type.
                return Ok(self.forget_trouble().await?);
            }
        }
    }

    /// Puts a parcel's transactions one after another; each is tried some times as it is.
    async fn hand_over(&mut self, parcel: &Parcel) -> Result<(), TransportError> {
        for (pdus, edus) in parcel.parts() {
            let id = OwnedTransactionId::from(random_string(&*self.couriers.0.ports.rng, 20));
            let transaction = Transaction { id, made_ms: self.couriers.now_ms(), pdus, edus };
            let mut tries = 0;
            while let Err(error) = self.couriers.0.transport.put(self.server, &transaction).await {
                tries += 1;
                // A server in trouble is not worth more than one try at a time.
                if tries >= COURIER_TRIES || self.trouble.is_some() || error.retry_after.is_some() {
                    return Err(error);
                }
                tokio::time::sleep(COURIER_TRY_PAUSE).await;
            }
        }
        Ok(())
    }

    /// The server has it all: so it is said durably.
    async fn settle(&mut self, parcel: &Parcel, reader: &Reader, to: Cursor) -> Result<(), DeliveryError> {
        if !parcel.told.is_empty() {
            let mut commit = Commit::new();
            for (user, at) in &parcel.told {
                commit.put(&TOLD, &(self.server.clone(), user.clone()), &at.0);
            }
            self.couriers.log().commit(commit).await?;
        }
        self.couriers.log().ack(reader, to).await?;
        if self.trouble.is_some() {
            tracing::info!("{} is reached again", self.server);
        }
        Ok(self.forget_trouble().await?)
    }

    async fn forget_trouble(&mut self) -> Result<(), CommitError> {
        match self.trouble.take() {
            Some(_) => backoff::keep(self.couriers.log(), self.server, None).await,
            None => Ok(()),
        }
    }

    async fn fail(&mut self, error: DeliveryError) -> DestinationStatus {
        let error = match error {
            DeliveryError::Transport(error) => error,
            error => {
                tracing::error!(%error, "cannot deliver to {}", self.server);
                TransportError { message: error.to_string(), retry_after: None }
            }
        };
        let (settings, ports) = (&self.couriers.0.settings, &self.couriers.0.ports);
        let now = (ports.clock.now_ms(), &*ports.rng);
        let status = DestinationStatus::after(self.trouble.as_ref(), &error, settings, now);
        if status.failures == 1 {
            tracing::info!("{} cannot be reached: {error}", self.server);
        }
        if let Err(error) = backoff::keep(self.couriers.log(), self.server, Some(&status)).await {
            tracing::warn!(%error, "cannot write down that {} is not reached", self.server);
        }
        status
    }
}
