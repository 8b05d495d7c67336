//! The task that ends what has lasted its time.

use std::{sync::Weak, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Ephemeral, Inner};

/// Runs until `stopping`, or until nobody holds the service.
pub(super) async fn run(inner: Weak<Inner>, stopping: CancellationToken) {
    loop {
        let Some(service) = inner.upgrade().map(Ephemeral) else { return };
        if let Err(error) = service.expire().await {
            tracing::debug!("could not tell what expired: {error}");
        }
        let wait = service.until_next();
        let sleep = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = service.0.sooner.notified() => {}
            () = sleep => {}
        }
    }
}

impl Ephemeral {
    /// Ends what has lasted its time, by the clock.
    pub(super) async fn expire(&self) -> Result<(), super::EphemeralError> {
        for room in self.0.typing.expire(self.now_ms()) {
            self.tell_typing(&room).await?;
        }
        self.expire_presence().await
    }

    fn until_next(&self) -> Option<Duration> {
        let ends = [self.0.typing.next_end(), self.next_presence_change()];
        let next = ends.into_iter().flatten().min()?;
        // At least a moment, so that a clock which stands still does not make this loop spin.
        Some(Duration::from_millis(next.saturating_sub(self.now_ms()).max(50)))
    }
}
