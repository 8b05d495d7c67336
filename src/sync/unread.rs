//! How much of each room is unread.

use std::collections::BTreeMap;

use ruma::OwnedRoomId;

use super::{Sync, SyncError, SyncRequest, SyncResponse, response::Counts};
use crate::{account::Caller, push, types::Position};

impl From<push::Counts> for Counts {
    fn from(counts: push::Counts) -> Self {
        Self { highlight_count: counts.highlight, notification_count: counts.notification }
    }
}

impl Sync {
    /// Adds the counts of the joined rooms of a page that ends at a position.
    pub(super) async fn add_counts(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        (to, response): (Position, &mut SyncResponse),
    ) -> Result<(), SyncError> {
        let rooms: Vec<OwnedRoomId> = response.rooms.join.keys().cloned().collect();
        if rooms.is_empty() {
            return Ok(());
        }
        let by_thread = request.filter.room.timeline.unread_thread_notifications;
        let unread = self.push.unread(&caller.user_id, &rooms, to).await?;
        for (update, unread) in response.rooms.join.values_mut().zip(unread) {
            if by_thread {
                update.unread_notifications = Some(unread.main.into());
                let threads: BTreeMap<_, _> =
                    unread.threads.into_iter().map(|(root, counts)| (root, counts.into())).collect();
                update.unread_thread_notifications = Some(threads);
            } else {
                update.unread_notifications = Some(unread.total().into());
            }
        }
        Ok(())
    }
}
