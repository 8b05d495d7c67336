//! The rows of reports.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::store::table::{Rows, TableId};

/// Reports by their numbers, which rise with time.
pub(super) const REPORTS: Rows<(u64,), Report> = Rows::new(TableId::Report);

/// Reported events as they were, by the numbers of the reports.
pub(super) const EVIDENCE: Rows<(u64,), Evidence> = Rows::new(TableId::ReportEvidence);

/// A reported event, whatever has become of it since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// The event as its server sent it.
    pub(super) event: String,
}

/// What was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    /// An event.
    Event {
        /// The room that it is in.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Who sent it.
        sender: OwnedUserId,
    },
    /// A room.
    Room {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// A user.
    User {
        /// The user.
        user_id: OwnedUserId,
    },
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// Who reports.
    pub reporter: OwnedUserId,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub received_ms: u64,
}
