//! What allows an event: its auth events, theirs, and so on.

use std::{collections::HashSet, sync::Arc};

use ruma::OwnedEventId;

use super::{History, StoredEvent};
use crate::{limits::STATE_EVENTS_MAX, store::StoreError};

impl History {
    /// The auth chain of some events, without those that are among `left_out`: at most
    /// [`STATE_EVENTS_MAX`] events.
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
        while !level.is_empty() && chain.len() < STATE_EVENTS_MAX {
            let named = level.iter().flat_map(|event| event.pdu.auth_events());
            let next: Vec<OwnedEventId> = named.filter(|id| met.insert((*id).clone())).cloned().collect();
            level = self.events(&next).await?.into_iter().flatten().collect();
            chain.extend(level.iter().filter(|event| !left_out.contains(event.pdu.event_id())).cloned());
        }
        Ok(chain)
    }
}
