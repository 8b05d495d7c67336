//! What a client asks for.

use std::time::Duration;

use ruma::{api::client::filter::FilterDefinition, presence::PresenceState};

use super::{ProfileFields, RelationFilter};
use crate::types::Cursor;

/// Where state goes in the answer, and under which name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateDialect {
    /// `state`: up to the start of the timeline.
    #[default]
    Before,
    /// `state_after`: up to its end.
    After,
    /// `org.matrix.msc4222.state_after`, which is what some clients still read.
    AfterUnstable,
}

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest {
    /// The filter, read already.
    pub filter: FilterDefinition,
    /// What it says of relations of the events of timelines.
    pub relations: RelationFilter,
    /// Fields of profiles that are told.
    pub profile_fields: ProfileFields,
    /// The token.
    pub since: Option<Cursor>,
    /// Nothing is acknowledged: what is on its way to the device stays there.
    pub keeps_inbox: bool,
    /// All state of all rooms, whatever the token.
    pub full_state: bool,
    /// Where state goes.
    pub dialect: StateDialect,
    /// How long to wait for something.
    pub timeout: Duration,
    /// What the client wants its user's presence to be.
    pub set_presence: Option<PresenceState>,
}

impl SyncRequest {
    /// Whether an empty answer is given at once.
    pub(super) fn answers_at_once(&self) -> bool {
        self.full_state || self.since.is_none() || self.timeout.is_zero()
    }
}
