//! The extension for events that stick.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4480>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{EventId, OwnedRoomId};
use serde::Serialize;

use super::{Turn, extensions::Shown, roster::Standing};
use crate::{
    history::Shape,
    limits::STICKY_EVENTS_PAGE_MAX,
    sync::{
        Sync, SyncError,
        response::{Events, Json},
    },
    types::Cursor,
};

/// What the client is told.
#[derive(Debug, Default, Serialize)]
pub(super) struct StickyResult {
    rooms: BTreeMap<OwnedRoomId, Events>,
    next_batch: String,
}

impl StickyResult {
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Sync {
    /// Events that stick and that the client does not have yet, in the rooms of its lists and subscriptions,
    /// whether or not they are in a window.
    pub(super) async fn sticky_events(
        &self,
        turn: &Turn<'_>,
        (rooms, rendered): Shown<'_>,
    ) -> Result<Option<StickyResult>, SyncError> {
        let wanted = &turn.request.extensions.sticky;
        if wanted.enabled != Some(true) {
            return Ok(None);
        }
        let since =
            wanted.since.as_deref().map(|text| text.parse::<Cursor>().map_err(|_| SyncError::BadToken));
        let since = since.transpose()?.map(|cursor| cursor.log).filter(|at| *at <= self.log.head());
        let asked =
            wanted.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(STICKY_EVENTS_PAGE_MAX);
        let limit = asked.clamp(1, STICKY_EVENTS_PAGE_MAX);
        let mut viewer = self.history.viewer(&turn.caller.user_id, Some(&turn.caller.device_id)).await?;
        if let Some(person) = &turn.habits.person {
            viewer = viewer.ignoring(&person.ignored);
        }
        let (mut found, mut owed) = (Vec::new(), Vec::new());
        let beyond = turn.beyond.iter().filter(|room| !rooms.contains_key(*room));
        for room in rooms.keys().chain(beyond) {
            // Whoever has everything up to here lacks only what has come since.
            if since.is_some_and(|since| since >= turn.from) && !turn.moved.contains(room) {
                continue;
            }
            let standing = turn.roster.entry(room).map(|entry| entry.standing);
            let Some(Standing::Joined(opened)) = standing else { continue };
            let given = rendered.get(room).into_iter().flat_map(|rendered| &rendered.shown);
            let given: BTreeSet<&EventId> = given.map(|id| &**id).collect();
            // What stuck in a room before the user came is news with the room.
            let from = since.filter(|since| opened <= *since).unwrap_or_default();
            let who = (&mut viewer, turn.habits.person.as_deref());
            for event in self.sticky_of(room, (from, turn.to), &given, who).await? {
                match since.is_some_and(|since| event.position <= since) {
                    true => owed.push(event),
                    false => found.push(event),
                }
            }
        }
        found.sort_by_key(|event| event.position);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map_or(turn.to, |last| last.position);
        // A token could not say that these are still to come, so they come at once.
        owed.append(&mut found);
        let found = owed;
        let mut result = StickyResult { next_batch: Cursor::at(next).to_string(), ..StickyResult::default() };
        let bundles = viewer.bundles(&found).await?;
        let texts: Vec<Json> = viewer.render(&found, Shape::Sync, &bundles).await?;
        for (event, text) in found.iter().zip(texts) {
            result.rooms.entry(event.pdu.room_id().to_owned()).or_default().events.push(text);
        }
        Ok(Some(result))
    }
}
