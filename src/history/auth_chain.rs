//! What allows an event: its auth events, theirs, and so on.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedEventId, events::TimelineEventType};

use super::{History, StoredEvent};
use crate::{dag::pdu::create_of_room, limits::STATE_EVENTS_MAX, store::StoreError};

impl History {
    /// The auth chain of some events, without those that are among `left_out`: about
    /// [`STATE_EVENTS_MAX`] events at most. The create event is part of it even where the room version only
    /// implies it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn auth_chain(
        &self,
        events: &[Arc<StoredEvent>],
        left_out: &HashSet<OwnedEventId>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut met: HashSet<OwnedEventId> = HashSet::new();
        let mut chain = Vec::new();
        let mut level: Vec<Arc<StoredEvent>> = events.to_vec();
        let mut implied = events.iter().find_map(|event| implied_create(event));
        while !level.is_empty() && chain.len() < STATE_EVENTS_MAX {
            let named = level.iter().flat_map(|event| event.pdu.auth_events()).cloned();
            let next: Vec<OwnedEventId> =
                named.chain(implied.take()).filter(|id| met.insert(id.clone())).collect();
            level = self.events(&next).await?.into_iter().flatten().collect();
            chain.extend(level.iter().filter(|event| !left_out.contains(event.pdu.event_id())).cloned());
        }
        Ok(chain)
    }
}

/// The create event of the room, if it allows the event without being named by it.
fn implied_create(event: &StoredEvent) -> Option<OwnedEventId> {
    let implies = event.rules().authorization.room_create_event_id_as_room_id
        && *event.pdu.event_type() != TimelineEventType::RoomCreate;
    create_of_room(event.pdu.room_id()).filter(|_| implies)
}
