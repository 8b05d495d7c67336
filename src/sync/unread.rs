//! How much of each room is unread.

use std::collections::BTreeMap;

use ruma::OwnedRoomId;

use super::{
    Sync, SyncError,
    response::{Counts, RoomUpdate},
    rooms::{Place, Scene},
};
use crate::{push, types::Fact};

impl From<push::Counts> for Counts {
    fn from(counts: push::Counts) -> Self {
        Self { highlight_count: counts.highlight, notification_count: counts.notification }
    }
}

impl Sync {
    /// Adds the counts of the joined rooms where they may have changed.
    pub(super) async fn add_counts(
        &self,
        scene: &Scene<'_>,
        updates: &mut [(&Place<'_>, RoomUpdate)],
    ) -> Result<(), SyncError> {
        let user = &scene.caller.user_id;
        let reads = |place: &Place<'_>| {
            let is_own = |fact: &Fact| matches!(fact, Fact::Receipt { user_id, .. } if user_id == user);
            place.facts().any(is_own) || scene.cut.private_receipts.contains_key(&place.room)
        };
        let is_event = |fact: &Fact| matches!(fact, Fact::Event { .. });
        let is_new_rule = scene.cut.changes_counts();
        let may_change = |place: &Place<'_>| {
            is_new_rule || place.is_whole(scene.request) || place.facts().any(is_event) || reads(place)
        };
        let by_thread = scene.request.filter.room.timeline.unread_thread_notifications;
        // A room without counts of threads has no unread ones, so whatever is sent of a room they come with it.
        let is_told = |place: &Place<'_>| place.is_joined && (by_thread || may_change(place));
        let mut changed: Vec<_> = updates.iter_mut().filter(|(place, _)| is_told(place)).collect();
        let rooms: Vec<OwnedRoomId> = changed.iter().map(|(place, _)| place.room.clone()).collect();
        if rooms.is_empty() {
            return Ok(());
        }
        let unread = self.push.unread(user, &rooms, scene.cut.to.log).await?;
        for ((place, update), unread) in changed.iter_mut().zip(unread) {
            // An event that the client has filtered out counts all the same, and so does a receipt.
            update.counts_changed |= unread.newest > scene.cut.from.log || reads(place);
            update.counts_changed |= is_new_rule && unread.is_behind;
            update.unread_notifications =
                Some(if by_thread { unread.main.into() } else { unread.total().into() });
            if by_thread {
                let threads = unread.threads.into_iter().map(|(root, counts)| (root, counts.into()));
                update.unread_thread_notifications = Some(threads.collect::<BTreeMap<_, _>>());
            }
        }
        Ok(())
    }
}
