//! Work that goes on for as long as the server runs.
//!
//! Owns: what becomes of a task that fails through a fault of ours. May use: `limits`. Start reading at [`keep`].
//! Invariants: a panic ends such a task for a while and never for good; nothing is begun anew once the server stops.

use std::{fmt, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{UPKEEP_PAUSE_FIRST, UPKEEP_PAUSE_MAX};

/// Does `work` until it ends by itself. If it panics it is begun anew, after a pause that grows from time to time up to
/// [`UPKEEP_PAUSE_MAX`]; it is short again once the work has gone on for longer than that. `what` the work is for is said in
/// the log. While it rests it ends with `stopping`; otherwise it has to heed that itself.
pub async fn keep<W>(what: impl fmt::Display, stopping: CancellationToken, mut work: impl FnMut() -> W)
where
    W: Future<Output = ()>,
{
    let mut pause = UPKEEP_PAUSE_FIRST;
    loop {
        let begun = Instant::now();
        // No panic poisons the locks of this server, and what is stored is written as a whole.
        let done = AssertUnwindSafe(async {
            work().await;
        })
        .catch_unwind()
        .await;
        if done.is_ok() {
            return;
        }
        if begun.elapsed() > UPKEEP_PAUSE_MAX {
            pause = UPKEEP_PAUSE_FIRST;
        }
        tracing::error!(
            "a fault of this server has ended {what}, which is begun anew in {} s",
            pause.as_secs()
        );
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = pause.saturating_mul(2).min(UPKEEP_PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        time::Duration,
    };

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::keep;
    use crate::limits::{UPKEEP_PAUSE_FIRST, UPKEEP_PAUSE_MAX};

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_begun_anew_after_pauses_that_grow() {
        let (begins, last) = (RefCell::new(Vec::new()), Cell::new(Instant::now()));
        let work = || async {
            begins.borrow_mut().push(last.replace(Instant::now()).elapsed());
            let count = begins.borrow().len();
            if count == 20 {
                // It goes on for a while, before it fails again.
                tokio::time::sleep(UPKEEP_PAUSE_MAX * 2).await;
                last.set(Instant::now());
            }
            assert!(count > 20, "a fault");
        };
        keep("a test", CancellationToken::new(), work).await;
        let begins = begins.into_inner();
        assert_eq!(begins.len(), 21, "it has ended by itself");
        assert_eq!(begins[..3], [Duration::ZERO, UPKEEP_PAUSE_FIRST, UPKEEP_PAUSE_FIRST * 2]);
        assert_eq!((begins[19], begins[20]), (UPKEEP_PAUSE_MAX, UPKEEP_PAUSE_FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_anew_when_the_server_stops() {
        let (stopping, begins) = (CancellationToken::new(), Cell::new(0));
        let work = || async {
            begins.set(begins.get() + 1);
            stopping.cancel();
            panic!("a fault");
        };
        keep("a test", stopping.clone(), work).await;
        assert_eq!(begins.get(), 1);
    }
}
