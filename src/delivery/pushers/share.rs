//! How many pushers are served at the same time, so that nobody waits for those of others that take long.

use ruma::OwnedUserId;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    limits::{PUSHERS_AT_ONCE, PUSHERS_OF_GATEWAY_AT_ONCE, PUSHERS_OF_USER_AT_ONCE, PUSHERS_SLOW_AT_ONCE},
    peer::{Slot, Slots},
};

/// How a pusher's gateway answered the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Pace {
    /// Soon.
    Quick,
    /// After long, not at all, or nothing is known.
    #[default]
    Slow,
}

/// Where a pusher waits for its turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) pace: Pace,
    /// The host of its gateway; empty for letters, which all go to one mail server.
    pub(super) gateway: String,
}

/// Who has a turn.
pub(super) struct Shares {
    users: Slots<OwnedUserId>,
    gateways: Slots<Line>,
    quick: Semaphore,
    slow: Semaphore,
}

/// The right to be served, which ends when dropped. Its fields are dropped in this order.
pub(super) struct Turn<'a> {
    _all: Option<SemaphorePermit<'a>>,
    _gateway: Slot<'a, Line>,
    _user: Slot<'a, OwnedUserId>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            users: Slots::new(PUSHERS_OF_USER_AT_ONCE),
            gateways: Slots::new(PUSHERS_OF_GATEWAY_AT_ONCE),
            quick: Semaphore::new(PUSHERS_AT_ONCE),
            slow: Semaphore::new(PUSHERS_SLOW_AT_ONCE),
        }
    }
}

impl Shares {
    /// Waits for a turn: first where fewer get one, so that whoever has to wait there holds nothing that others want.
    pub(super) async fn turn(&self, user: &OwnedUserId, line: Line) -> Turn<'_> {
        let pool = match line.pace {
            Pace::Quick => &self.quick,
            Pace::Slow => &self.slow,
        };
        let user = self.users.enter(user).await;
        let gateway = self.gateways.enter(&line).await;
        // It is never closed; without a permit there would just be no bound.
        Turn { _all: pool.acquire().await.ok(), _gateway: gateway, _user: user }
    }
}
