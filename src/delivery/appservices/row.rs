//! What is kept of an application service: how far it has got, and the transaction on its way.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    #[serde(flatten)]
    pub messages: Option<Mark>,
    /// Transactions that it has taken; the next one's id.
    pub taken: u64,
    /// How often what comes next was refused, by which it gets less at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
    /// The transaction on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// When it did not take something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<AppserviceTrouble>,
}

/// How far an application service has got with messages to devices. Those of one commit share a position and may be more
/// than one transaction carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// It has all of them up to here,
    #[serde(rename = "messages")]
    pub upto: Position,
    /// and of those at a position after that, the ones in the inboxes up to this one.
    #[serde(default, rename = "messages_part", skip_serializing_if = "Option::is_none")]
    pub part: Option<(Position, OwnedUserId, OwnedDeviceId)>,
}

impl Mark {
    /// All up to a position.
    #[must_use]
    pub fn at(upto: Position) -> Self {
        Self { upto, part: None }
    }

    /// Whether it has what is at a position in an inbox.
    #[must_use]
    pub fn has(&self, at: Position, (user, device): &(OwnedUserId, OwnedDeviceId)) -> bool {
        let is_in_part = |(part, of, on): &(Position, OwnedUserId, OwnedDeviceId)| {
            *part == at && (user, device) <= (of, on)
        };
        at <= self.upto || self.part.as_ref().is_some_and(is_in_part)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
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
    /// Nothing can be taken out of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_single: bool,
    /// Up to where messages to devices are in it.
    #[serde(flatten)]
    pub messages: Option<Mark>,
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

impl Pending {
    /// What is in it, for the log.
    pub(super) fn describe(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let named = |field: &str, name: &str| body[field][0][name].as_str().map(ToOwned::to_owned);
        named("events", "event_id")
            .or_else(|| named("de.sorunome.msc2409.to_device", "type"))
            .or_else(|| named("ephemeral", "type"))
            .unwrap_or_else(|| "changes of devices".to_owned())
    }
}

impl AppserviceRow {
    /// The id of the next transaction. The position makes ids of different registrations of the same name differ.
    pub(super) fn next_id(&self) -> String {
        match self.refusals {
            0 => format!("{}-{}", self.taken, self.cursor),
            refusals => format!("{}-{}-{refusals}", self.taken, self.cursor),
        }
    }

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
        after.messages = pending.messages.clone().or(after.messages);
        after.taken += 1;
        // What was refused may be behind it by now.
        after.refusals = after.refusals.saturating_sub(1);
        for (user, device, upto) in &pending.inboxes {
            commit.drop_queued(&Lane::Inbox(user.clone(), device.clone()), *upto);
        }
    }
    commit.put(&APPSERVICES, &(id.to_owned(),), &after);
    log.commit(commit).await.map(|_| after)
}

#[cfg(test)]
mod tests {
    use super::{AppserviceRow, Mark};
    use crate::types::Position;

    #[test]
    fn a_row_is_read_as_it_was_written_before_there_were_parts() {
        let pending = r#"{ "txn_id": "1-5", "to": 6, "body": "{}", "messages": 6 }"#;
        let (mark, before) = (Some(Mark::at(Position(4))), r#"{ "cursor": 5, "taken": 1"#);
        for (more, expected) in [("", None), (r#", "messages": 4"#, mark)] {
            let row: AppserviceRow =
                serde_json::from_str(&format!("{before}{more}, \"pending\": {pending} }}")).unwrap();
            assert_eq!((row.cursor, row.taken, row.refusals), (Position(5), 1, 0));
            assert_eq!(row.messages, expected);
            assert_eq!(row.pending.as_ref().unwrap().messages, Some(Mark::at(Position(6))));
            let again: AppserviceRow = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
            assert_eq!(again, row);
        }
    }
}
