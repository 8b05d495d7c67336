//! Events that are told to those who come later than they did.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::sync::Arc;

use ruma::RoomId;

use super::{History, StoredEvent, tables::STICKY};
use crate::{
    dag::Pdu,
    limits::STICKY_EVENTS_MAX,
    store::{Scan, StoreError},
};

/// Until when an event sticks that came at `now_ms`, if it does, in milliseconds since the epoch. One from the
/// future sticks no longer than others.
#[must_use]
pub fn sticky_until_ms(pdu: &Pdu, now_ms: u64) -> Option<u64> {
    let begins_ms = u64::from(pdu.origin_server_ts().0).min(now_ms);
    let ends_ms = begins_ms.saturating_add(pdu.sticky_ms()?);
    (ends_ms > now_ms).then_some(ends_ms)
}

impl History {
    /// The events of `room` that stick, in the order of its timeline. Of very many those that end last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sticky(&self, room: &RoomId) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let now_ms = self.0.ports.clock.now_ms();
        let Some(row) = self.room(room).await?.filter(|row| row.sticky_until_ms > now_ms) else {
            return Ok(Vec::new());
        };
        drop(row);
        let from = STICKY.prefix(&(room.to_owned(), now_ms.saturating_add(1)));
        let to = STICKY.prefix(&(room.to_owned(),)).after_prefix();
        let scan = Scan { from, to, reverse: true, limit: STICKY_EVENTS_MAX };
        let rows = self.log().db().scan(&STICKY, scan).await?;
        let ids: Vec<_> = rows.into_iter().map(|((_, _, id), ())| id).collect();
        let mut events: Vec<_> = self.events(&ids).await?.into_iter().flatten().collect();
        // What was redacted since does not stick.
        events.retain(|event| event.is_of_timeline() && event.pdu.sticky_ms().is_some());
        events.sort_by_key(|event| event.position);
        Ok(events)
    }
}
