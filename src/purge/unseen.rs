//! What no timeline has: events that were rejected or failed softly, and copies on the disk of what was removed.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{Purge, PurgeError, Trouble};
use crate::{
    history::{Status, StoredEvent},
    limits::{RETENTION_PAGE_EVENTS, STORE_SCRUB_EVERY_MS},
    log::Commit,
    store::table::{Rows, TableId},
};

/// When the disk was last rid of what had been removed, in milliseconds since 1970.
const SCRUBBED: Rows<(String,), u64> = Rows::new(TableId::Meta);

impl Purge {
    /// Now and then, takes the content out of what is shown to nobody anyway, and has what was removed go from the disk.
    pub(super) async fn scrub(&self, trouble: &mut Trouble) -> Result<(), PurgeError> {
        let key = (String::from("scrubbed"),);
        let last_ms = self.log().db().row(&SCRUBBED, &key).await?.unwrap_or_default();
        if self.now_ms() < last_ms.saturating_add(STORE_SCRUB_EVERY_MS) {
            return Ok(());
        }
        if self.0.settings.retention.is_some() || self.0.history.has_erased() {
            // What fails now is tried again in a week: it is shown to nobody, and all events are read for it.
            let done = self.end_unseen(trouble).await;
            trouble.note("what failed softly or was rejected", done);
        }
        self.log().db().scrub().await?;
        let mut commit = Commit::new();
        commit.put(&SCRUBBED, &key, &self.now_ms());
        self.log().commit(commit).await?;
        Ok(())
    }

    /// Takes the content out of messages that are in no timeline, if their time is over or their sender was erased.
    async fn end_unseen(&self, trouble: &mut Trouble) -> Result<(), PurgeError> {
        let (mut after, mut ends_ms) = (None, BTreeMap::new());
        loop {
            let (page, last) = self.0.history.stored_after(after.as_ref(), RETENTION_PAGE_EVENTS).await?;
            if last.is_none() {
                return Ok(());
            }
            after = last;
            let mut over: BTreeMap<OwnedRoomId, Vec<OwnedEventId>> = BTreeMap::new();
            let mut erased: BTreeMap<(OwnedRoomId, OwnedUserId), Vec<OwnedEventId>> = BTreeMap::new();
            for event in page.into_iter().filter(says_something_unseen) {
                let (id, room) = (event.pdu.event_id().to_owned(), event.pdu.room_id().to_owned());
                if self.0.history.is_erased(event.pdu.sender()) {
                    erased.entry((room, event.pdu.sender().to_owned())).or_default().push(id);
                } else if self.is_over(&event, &mut ends_ms).await? {
                    over.entry(room).or_default().push(id);
                }
            }
            for (room, events) in over {
                let done = self.0.rooms.expire(&room, &events).await;
                trouble.note(format_args!("unseen messages of {room}"), done.map(drop).map_err(Into::into));
            }
            for ((room, user), events) in erased {
                let done = self.0.rooms.erase(&room, &events, &user).await;
                trouble.note(format_args!("unseen messages of {room}"), done.map(drop).map_err(Into::into));
            }
        }
    }

    /// Whether the time of a message is over; `ends_ms` remembers before which moment it is, by room.
    async fn is_over(
        &self,
        event: &StoredEvent,
        ends_ms: &mut BTreeMap<OwnedRoomId, Option<u64>>,
    ) -> Result<bool, PurgeError> {
        let room = event.pdu.room_id().to_owned();
        let before_ms = match ends_ms.get(&room) {
            Some(known) => *known,
            None => {
                let before_ms = self.before_ms(&room).await?;
                *ends_ms.entry(room).or_insert(before_ms)
            }
        };
        Ok(before_ms.is_some_and(|before_ms| u64::from(event.pdu.origin_server_ts().0) < before_ms))
    }
}

/// Whether an event is a message that has a content and no place where it is shown.
fn says_something_unseen(event: &Arc<StoredEvent>) -> bool {
    matches!(event.status, Status::SoftFailed | Status::Rejected | Status::Outlier)
        && event.pdu.state_key().is_none()
        && event.notes.redacted_by.is_none()
        && event.pdu.content().get() != "{}"
}
