//! What is kept of an application service: how far it has got, and the transaction on its way.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::{
    log::{Commit, CommitError, Log},
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::{Lane, Position},
};

const APPSERVICES: Rows<(String,), AppserviceRow> = Rows::new(TableId::Appservice);

/// What is kept of an application service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppserviceRow {
    /// Up to where it has everything.
    pub cursor: Position,
    /// Up to where it has what went to devices that sync too; up to the cursor, where nothing is said. What went to
    /// devices that are its own is removed once it has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Position>,
    /// Transactions that it has taken; the next one's id.
    pub taken: u64,
    /// The transaction on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// When it did not take something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<AppserviceTrouble>,
}

/// A transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its id.
    pub txn_id: String,
    /// Up to where the log is in it.
    pub to: Position,
    /// Its body.
    pub body: String,
    /// Up to where messages to devices are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Position>,
    /// The inboxes that are its own of which messages are in it, up to which position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inboxes: Vec<(OwnedUserId, OwnedDeviceId, Position)>,
}

/// How an application service stands that did not take something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppserviceTrouble {
    /// Since when, in milliseconds since the epoch.
    pub failing_since_ms: u64,
    /// When it is tried again, in milliseconds since the epoch.
    pub retry_at_ms: u64,
    /// How often it has failed without a success in between.
    pub failures: u32,
    /// What happened last.
    pub last_error: String,
}

impl AppserviceRow {
    /// How much of the log waits for it. Where there was nothing to bring, the cursor is not moved at once, so that
    /// this is nothing too.
    #[must_use]
    pub fn lag(&self, head: Position) -> u64 {
        self.pending.as_ref().map_or(0, |_| head.0.saturating_sub(self.cursor.0))
    }
}

/// Has `commit` remove what is kept of an application service.
pub(super) fn forget(commit: &mut Commit, id: &str) {
    commit.delete(&APPSERVICES, &(id.to_owned(),));
}

pub(super) async fn load(log: &Log, id: &str) -> Result<Option<AppserviceRow>, StoreError> {
    log.db().row(&APPSERVICES, &(id.to_owned(),)).await
}

pub(super) async fn keep(log: &Log, id: &str, row: &AppserviceRow) -> Result<(), CommitError> {
    let mut commit = Commit::new();
    commit.put(&APPSERVICES, &(id.to_owned(),), row);
    log.commit(commit).await.map(drop)
}

/// The transaction has been taken: so it is said durably, and those messages in it that nobody else reads wait no more.
pub(super) async fn settle(log: &Log, id: &str, row: &AppserviceRow) -> Result<AppserviceRow, CommitError> {
    let mut commit = Commit::new();
    let mut after = AppserviceRow { pending: None, trouble: None, ..row.clone() };
    if let Some(pending) = &row.pending {
        after.cursor = after.cursor.max(pending.to);
        after.messages = pending.messages.or(after.messages);
        after.taken += 1;
        for (user, device, upto) in &pending.inboxes {
            commit.drop_queued(&Lane::Inbox(user.clone(), device.clone()), *upto);
        }
    }
    commit.put(&APPSERVICES, &(id.to_owned(),), &after);
    log.commit(commit).await.map(|_| after)
}
