//! Which events are wanted for how they relate to others, and others to them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3874>

use std::collections::BTreeSet;

use ruma::OwnedUserId;
use serde::Deserialize;

use crate::{
    dag::{Pdu, relates},
    history::{Related, StoredEvent, Viewer},
    limits::{RELATED_SENDERS_MAX, RELATION_KINDS_MAX},
    store::StoreError,
};

/// The part of a filter for events of rooms that ruma's type leaves out.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RelationFilter {
    #[serde(rename = "org.matrix.msc3874.rel_types")]
    wanted: Option<BTreeSet<String>>,
    #[serde(rename = "org.matrix.msc3874.not_rel_types", default)]
    unwanted: BTreeSet<String>,
    /// Something relates to the event in one of these ways,
    related_by_rel_types: Option<BTreeSet<String>>,
    /// and it is of one of these users.
    related_by_senders: Option<BTreeSet<OwnedUserId>>,
}

/// It names more than is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "A filter may name at most {RELATION_KINDS_MAX} `related_by_rel_types` and {RELATED_SENDERS_MAX} `related_by_senders`"
)]
pub struct TooManyRelations;

/// Where it is in the filter of a sync.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OfSync {
    room: OfRoom,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OfRoom {
    timeline: RelationFilter,
}

impl RelationFilter {
    /// That of a filter for events of rooms, which has been read as one already; what makes no sense counts as absent.
    ///
    /// # Errors
    /// When it names too much.
    pub fn of_events(filter: &str) -> Result<Self, TooManyRelations> {
        serde_json::from_str::<Self>(filter).unwrap_or_default().bounded()
    }

    /// That of the timelines of a sync, by its filter.
    ///
    /// # Errors
    /// As of [`Self::of_events`].
    pub fn of_timelines(filter: &str) -> Result<Self, TooManyRelations> {
        let filter = serde_json::from_str(filter).map(|OfSync { room }| room.timeline);
        filter.unwrap_or_default().bounded()
    }

    /// Each event is held against all that it names.
    fn bounded(self) -> Result<Self, TooManyRelations> {
        let (kinds, senders) = (&self.related_by_rel_types, &self.related_by_senders);
        let is_wide = kinds.as_ref().is_some_and(|kinds| kinds.len() > RELATION_KINDS_MAX)
            || senders.as_ref().is_some_and(|senders| senders.len() > RELATED_SENDERS_MAX);
        match is_wide {
            true => Err(TooManyRelations),
            false => Ok(self),
        }
    }

    /// Whether some events pass and others do not.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.wanted.is_some() || !self.unwanted.is_empty() || self.asks_for_others()
    }

    /// Whether it depends on events that relate to one; see [`Self::is_met`].
    #[must_use]
    pub fn asks_for_others(&self) -> bool {
        self.related_by_rel_types.is_some() || self.related_by_senders.is_some()
    }

    /// Whether an event passes by what it relates to itself.
    #[must_use]
    pub fn passes(&self, pdu: &Pdu) -> bool {
        if self.wanted.is_none() && self.unwanted.is_empty() {
            return true;
        }
        let relation = relates::of(pdu).and_then(|relation| relation.parent);
        let kind = relation.map(|(kind, _)| kind);
        let is_in = |kinds: &BTreeSet<String>| kind.as_ref().is_some_and(|kind| kinds.contains(kind));
        self.wanted.as_ref().is_none_or(is_in) && !is_in(&self.unwanted)
    }

    /// Whether what is wanted relates to an event, as far as the user sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_met(&self, viewer: &mut Viewer, event: &StoredEvent) -> Result<bool, StoreError> {
        match self.related() {
            Some(related) => viewer.is_related(event.pdu.event_id(), &related).await,
            None => Ok(true),
        }
    }

    /// What has to relate to an event, if that is asked for.
    #[must_use]
    pub fn related(&self) -> Option<Related> {
        let related = || Related {
            kinds: self.related_by_rel_types.clone().map(Vec::from_iter),
            senders: self.related_by_senders.clone(),
        };
        self.asks_for_others().then(related)
    }
}
