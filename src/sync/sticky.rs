//! Events that a client is told beside the timeline, because they stick.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::{collections::BTreeSet, sync::Arc};

use ruma::{EventId, OwnedRoomId};

use super::{
    Sync, SyncError,
    response::Json,
    rooms::{Place, Scene},
    timeline::Span,
};
use crate::{
    history::{StoredEvent, Viewer},
    push::Person,
    types::Position,
};

impl Sync {
    /// Those of a room that came since the client's token and are not in its timeline.
    pub(super) async fn sticky(
        &self,
        scene: &mut Scene<'_>,
        place: &Place<'_>,
        span: &Span,
    ) -> Result<Vec<Json>, SyncError> {
        if !place.is_joined {
            return Ok(Vec::new());
        }
        let from = if place.is_new { Position::ZERO } else { place.from };
        let shown: BTreeSet<&EventId> = span.shown.iter().map(|event| event.pdu.event_id()).collect();
        let person = scene.person.clone();
        let who = (&mut scene.viewer, Some(&*person));
        let events = self.sticky_of(&place.room, (from, place.ends), &shown, who).await?;
        self.render_events(scene, &events).await
    }

    /// The sticky events of `room` in `(from, to]` that the viewer may see and lacks.
    pub(super) async fn sticky_of(
        &self,
        room: &OwnedRoomId,
        (from, to): (Position, Position),
        shown: &BTreeSet<&EventId>,
        (viewer, person): (&mut Viewer, Option<&Person>),
    ) -> Result<Vec<Arc<StoredEvent>>, SyncError> {
        let mut found = Vec::new();
        for event in self.history.sticky(room).await? {
            let lacks =
                event.position > from && event.position <= to && !shown.contains(event.pdu.event_id());
            let ignored = person.is_some_and(|person| person.ignored.contains(event.pdu.sender()));
            if lacks && !ignored && viewer.sees(&event).await? {
                found.push(event);
            }
        }
        Ok(found)
    }
}
