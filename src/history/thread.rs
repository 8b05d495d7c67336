//! Which thread an event belongs to.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#threading>

use ruma::OwnedEventId;

use super::{History, StoredEvent};
use crate::{dag::relates, limits::RELATION_HOPS_MAX, store::StoreError};

impl History {
    /// The root of the thread to which `event` belongs, directly or by way of what it relates to; none
    /// if it is of the main timeline (where the roots themselves are).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn thread_of(&self, event: &StoredEvent) -> Result<Option<OwnedEventId>, StoreError> {
        let mut relation = relates::of(&event.pdu);
        for _ in 0..RELATION_HOPS_MAX {
            let Some(found) = relation else { return Ok(None) };
            if let Some(root) = found.thread_root() {
                return Ok(Some(root.to_owned()));
            }
            let Some((_, parent)) = found.parent else { return Ok(None) };
            let Some(parent) = self.sound_event(&parent).await? else { return Ok(None) };
            if parent.pdu.room_id() != event.pdu.room_id() {
                return Ok(None);
            }
            relation = relates::of(&parent.pdu);
        }
        Ok(None)
    }
}
