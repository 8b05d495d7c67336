//! Pushers: what a user is to be told of is brought to the gateways that they named.
//!
//! A pusher reads the log like everybody else; its cursor is in its row (`push::PusherRow`), which is
//! written after each notification that a gateway has taken. So nothing is lost by a crash, and at most one
//! notification is repeated, with the same event id. Start reading at [`Pushers`], then `dispatch` (who is
//! served when), `share` (how many at the same time) and `courier` (one pusher's deliveries), or `letters` for pushers that write letters.
//!
//! <https://spec.matrix.org/v1.19/push-gateway-api/>

mod courier;
mod dispatch;
mod gateway;
mod letters;
mod render;
mod share;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use ruma::api::push_gateway::send_event_notification::v1::Notification;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use gateway::ByNet;
pub use letters::{Digest, DigestLine, Letters};

use super::{Settings, TransportError};
use crate::{history::History, push::Push, store::BoxFuture, types::Ports, upkeep};

/// Hands notifications to push gateways.
pub trait Gateway: Send + Sync + 'static {
    /// Resolves with the pushkeys that the gateway at `url` does not want to hear of any more, once it has
    /// answered 200.
    fn notify<'a>(
        &'a self,
        url: &'a str,
        notification: Notification,
    ) -> BoxFuture<'a, Result<Vec<String>, TransportError>>;
}

/// How users are told.
pub struct Means {
    /// Takes notifications.
    pub gateway: Arc<dyn Gateway>,
    /// Takes letters, if there is a mail server.
    pub letters: Option<Arc<dyn Letters>>,
    /// How long something may stay unread before a letter is written about it.
    pub letter_delay: Duration,
}

/// Serves every pusher. Cheap to clone.
#[derive(Clone)]
pub struct Pushers(Arc<Inner>);

struct Inner {
    history: History,
    push: Push,
    ports: Ports,
    gateway: Arc<dyn Gateway>,
    /// Takes letters, if there is a mail server.
    letters: Option<Arc<dyn Letters>>,
    /// How long something may stay unread before a letter is written about it.
    letter_delay: Duration,
    settings: Settings,
    desk: Mutex<dispatch::Desk>,
    /// Told when a courier ends.
    changed: Notify,
    shares: share::Shares,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl fmt::Debug for Pushers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pushers")
    }
}

impl Pushers {
    /// Begins to serve on `tasks`, until `stopping`.
    #[must_use]
    pub fn start(
        (history, push): (History, Push),
        means: Means,
        settings: Settings,
        ports: Ports,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let Means { gateway, letters, letter_delay } = means;
        let this = Self(Arc::new(Inner {
            history,
            push,
            ports,
            gateway,
            letters,
            letter_delay,
            settings,
            desk: Mutex::default(),
            changed: Notify::new(),
            shares: share::Shares::default(),
            tasks: tasks.clone(),
            stopping,
        }));
        let (couriers, stopping) = (this.clone(), this.0.stopping.clone());
        let dispatching = move || dispatch::run(couriers.clone());
        tasks.spawn(upkeep::keep("the dispatch to push gateways", stopping, dispatching));
        this
    }

    fn now_ms(&self) -> u64 {
        self.0.ports.clock.now_ms()
    }

    fn log(&self) -> &crate::log::Log {
        self.0.history.log()
    }
}
