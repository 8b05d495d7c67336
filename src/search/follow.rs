//! Following the log: what an index of the search does for as long as the server runs.

use std::{convert::Infallible, time::Duration};

use ruma::OwnedRoomId;
use tokio::sync::{Notify, watch};

use super::SearchError;
use crate::{
    history::History,
    limits::USER_SEARCH_WAIT,
    log::Log,
    store::StoreError,
    types::{Lane, Position},
};

/// An index that follows the log.
pub(super) trait Follow {
    /// Takes in what was written up to `head`.
    fn advance(&mut self, head: Position) -> impl Future<Output = Result<(), SearchError>> + Send;
}

/// How far an index has got, and whether somebody waits for it.
pub(super) struct Progress {
    /// Up to where the log has been followed.
    reached: watch::Sender<Position>,
    /// Told when somebody waits for that.
    wanted: Notify,
}

impl Default for Progress {
    fn default() -> Self {
        Self { reached: watch::Sender::new(Position::ZERO), wanted: Notify::new() }
    }
}

impl Progress {
    /// Has `index` follow `log`, with a `pause` after each look for which nobody waits.
    pub(super) async fn follow(
        &self,
        log: &Log,
        pause: Duration,
        index: &mut impl Follow,
    ) -> Result<Infallible, SearchError> {
        let mut heads = log.heads();
        loop {
            let head = (*heads.borrow_and_update()).max(log.head());
            index.advance(head).await?;
            self.reached.send_replace(head);
            if heads.changed().await.is_err() {
                // The log is closed: there will be nothing more.
                std::future::pending::<()>().await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Waits for the log to have been followed up to now; not for long, since what was found out until then will do.
    pub(super) async fn catch_up(&self, log: &Log) {
        let head = log.head();
        let mut reached = self.reached.subscribe();
        if *reached.borrow() >= head {
            return;
        }
        self.wanted.notify_one();
        let reaching = reached.wait_for(|reached| *reached >= head);
        drop(tokio::time::timeout(USER_SEARCH_WAIT, reaching).await);
    }
}

/// The rooms that something was written to above `cursor`; all, where that is not known.
pub(super) async fn touched_rooms(
    history: &History,
    cursor: Position,
) -> Result<Vec<OwnedRoomId>, StoreError> {
    let room = |lane| match lane {
        Lane::Room(room) => Some(room),
        _ => None,
    };
    match history.log().touched(cursor) {
        Some(lanes) => Ok(lanes.into_iter().filter_map(room).collect()),
        None => history.rooms().await,
    }
}
