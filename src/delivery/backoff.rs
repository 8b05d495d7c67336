//! Servers that could not be reached, and when they are tried again.

use std::time::Duration;

use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};

use super::{Settings, TransportError};
use crate::{
    limits::COURIER_ERROR_BYTES_MAX,
    log::{Commit, CommitError, Log},
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::Rng,
};

const DESTINATIONS: Rows<(OwnedServerName,), DestinationStatus> = Rows::new(TableId::Destination);

/// How the deliveries to a server stand that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Since when, in milliseconds since the epoch.
    pub failing_since_ms: u64,
    /// When it is tried again, in milliseconds since the epoch.
    pub retry_at_ms: u64,
    /// How often it has failed without a success in between.
    pub failures: u32,
    /// What happened last.
    pub last_error: String,
}

impl DestinationStatus {
    /// What follows on another failure.
    pub(super) fn after(
        before: Option<&Self>,
        error: &TransportError,
        settings: &Settings,
        (now_ms, rng): (u64, &dyn Rng),
    ) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let doubled = settings.first_pause.saturating_mul(1 << (failures - 1).min(20));
        let mut pause = doubled.min(settings.longest_pause);
        // Up to a fifth more, so that servers that fell together do not rise together.
        let mut random = [0];
        rng.fill(&mut random);
        pause += pause.mul_f64(f64::from(random[0]) / f64::from(u8::MAX) / 5.0);
        let asked = error.retry_after.unwrap_or_default().min(Duration::from_secs(86_400));
        let pause_ms = u64::try_from(pause.max(asked).as_millis()).unwrap_or(u64::MAX);
        let mut last_error = error.message.clone();
        let end = (0..=COURIER_ERROR_BYTES_MAX.min(last_error.len())).rev();
        last_error.truncate(end.into_iter().find(|at| last_error.is_char_boundary(*at)).unwrap_or(0));
        Self {
            failing_since_ms: before.map_or(now_ms, |before| before.failing_since_ms),
            retry_at_ms: now_ms.saturating_add(pause_ms),
            failures,
            last_error,
        }
    }
}

/// Everyone who has had trouble.
pub(super) async fn all(log: &Log) -> Result<Vec<(OwnedServerName, DestinationStatus)>, StoreError> {
    let rows = log.db().select(&DESTINATIONS, &(), |_, _| true).await?;
    Ok(rows.into_iter().map(|((server,), status)| (server, status)).collect())
}

/// Keeps how a server stands, over restarts too.
pub(super) async fn keep(
    log: &Log,
    server: &ServerName,
    status: Option<&DestinationStatus>,
) -> Result<(), CommitError> {
    let mut commit = Commit::new();
    let key = (server.to_owned(),);
    match status {
        Some(status) => commit.put(&DESTINATIONS, &key, status),
        None => commit.delete(&DESTINATIONS, &key),
    }
    log.commit(commit).await.map(drop)
}
