//! The timeline of a room in a page.

use std::sync::Arc;

use ruma::OwnedEventId;

use super::{
    Sync, SyncError, boundary,
    filter::{kind_wanted, passes},
    response::{Json, Timeline},
    room::{Place, Scene, events_of},
    timeline_limit,
};
use crate::{
    history::{Bundles, Shape, StoredEvent},
    log::Direction,
    types::{Fact, Position},
};

/// The events of a room that a page covers.
#[derive(Default)]
pub(super) struct Span {
    /// Those that the client is given, filter aside, oldest first.
    pub(super) events: Vec<Arc<StoredEvent>>,
    /// The events begin after this position.
    pub(super) begins: Position,
    /// And end here.
    pub(super) ends: Position,
    /// There are older events that the client is not given.
    pub(super) limited: bool,
    /// The state moved otherwise than by these events.
    pub(super) moved: bool,
}

impl Sync {
    /// What the page covers of the room's timeline.
    pub(super) async fn span(&self, scene: &mut Scene<'_>, place: &Place<'_>) -> Result<Span, SyncError> {
        let ends = place.slice.closed.unwrap_or(scene.cut.to.log);
        let limit = timeline_limit(scene.request);
        let (ids, limited, moved) = match place.is_new {
            true => {
                let range = (Position::ZERO, ends);
                let mut facts = self.log.timeline(place.room, range, Direction::Backward, limit + 1).await?;
                let limited = facts.len() > limit;
                facts.truncate(limit);
                facts.reverse();
                (event_ids(facts), limited, false)
            }
            false => {
                let (ids, moved) = events_of(place.slice);
                (ids, place.slice.gap, moved || place.slice.gap)
            }
        };
        let loaded: Vec<Arc<StoredEvent>> = self.history.events(&ids).await?.into_iter().flatten().collect();
        let begins = match loaded.first() {
            Some(first) => Position(first.position.0.saturating_sub(1)),
            None => ends,
        };
        let mut events = scene.viewer.filter(loaded).await?;
        events.retain(|event| event.pdu.state_key().is_some() || !scene.ignored.contains(event.pdu.sender()));
        Ok(Span { events, begins, ends, limited, moved })
    }

    /// The timeline as the client gets it.
    pub(super) async fn timeline(&self, scene: &mut Scene<'_>, span: &Span) -> Result<Timeline, SyncError> {
        let filter = &scene.request.filter.room.timeline;
        let wanted: Vec<Arc<StoredEvent>> = span
            .events
            .iter()
            .filter(|event| {
                let event_type = event.pdu.event_type().to_string();
                kind_wanted(filter, event.pdu.room_id())
                    && passes(filter, (&event_type, event.pdu.sender(), event.pdu.content()))
            })
            .cloned()
            .collect();
        let events = self.render_events(scene, &wanted).await?;
        Ok(Timeline { events, limited: span.limited, prev_batch: Some(boundary(span.begins)) })
    }

    /// Events as the client gets them.
    pub(super) async fn render_events(
        &self,
        scene: &mut Scene<'_>,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Json>, SyncError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        Ok(scene.viewer.render(events, Shape::Sync, &Bundles::new()).await?)
    }
}

fn event_ids(facts: Vec<(Position, Fact)>) -> Vec<OwnedEventId> {
    let event = |(_, fact)| match fact {
        Fact::Event { event_id } => Some(event_id),
        _ => None,
    };
    facts.into_iter().filter_map(event).collect()
}
