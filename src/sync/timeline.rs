//! The timelines of rooms in a page.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, UInt, UserId, api::client::filter::EventFormat};

use super::{
    StateDialect, Sync, SyncError, boundary, fields,
    filter::{is_selective, kind_wanted, wants},
    response::{Json, Timeline},
    rooms::{Place, Scene},
};
use crate::{
    history::{Bundles, Shape, StoredEvent},
    limits::SYNC_FILL_ROUNDS,
    log::Direction,
    types::{Fact, Position},
};

/// The events of a room that a page covers.
#[derive(Default)]
pub(super) struct Span {
    /// Those that the client is given, oldest first.
    pub(super) shown: Vec<Arc<StoredEvent>>,
    /// All of them, whether or not the client wants or may see them.
    pub(super) covered: Vec<Arc<StoredEvent>>,
    /// The events begin after this position.
    pub(super) begins: Position,
    /// And end here.
    pub(super) ends: Position,
    /// There are older events that the client is not given.
    pub(super) limited: bool,
    /// The state may have moved otherwise than by these events.
    pub(super) jumps: bool,
}

impl Span {
    /// Leaves out what comes before a covered event.
    fn cut(&mut self, first: usize) {
        self.covered.drain(..first);
        if let Some(event) = self.covered.first() {
            let begins = event.position;
            self.shown.retain(|event| event.position >= begins);
            self.begins = Position(begins.0.saturating_sub(1));
        }
        self.limited = true;
    }

    /// Leaves out shown state that a later event, which is not shown, has replaced: a client that builds the
    /// state from the timeline would take what it is shown for what stands.
    fn cut_where_overtaken(&mut self) {
        if self.shown.len() == self.covered.len() {
            return;
        }
        let shown: HashSet<&EventId> = self.shown.iter().map(|event| event.pdu.event_id()).collect();
        let mut newest_is_shown = HashMap::new();
        let overtaken = self.covered.iter().rposition(|event| {
            let Some(place) = event.pdu.state_position() else { return false };
            let is_shown = shown.contains(event.pdu.event_id());
            let newest_is_shown: bool = *newest_is_shown.entry(place).or_insert(is_shown);
            is_shown && !newest_is_shown
        });
        if let Some(last) = overtaken {
            self.cut(last + 1);
        }
    }

    /// Leaves out all events.
    fn empty(&mut self) {
        if let Some(last) = self.covered.last() {
            self.begins = last.position;
            self.limited = true;
            self.jumps = true;
        }
        self.covered.clear();
        self.shown.clear();
    }

    /// Whether events may have made less unread: what the user said, or what took back others.
    pub(super) fn lowers_counts(&self, user: &UserId) -> bool {
        self.covered.iter().any(|event| event.pdu.sender() == user || event.pdu.redacts().is_some())
    }

    /// Whether the state is the same before, between and after the events.
    pub(super) fn is_still(&self) -> bool {
        !self.jumps && self.covered.iter().all(|event| event.states.is_some_and(|at| at.before == at.current))
    }
}

impl Sync {
    /// What the page covers of each room's timeline.
    pub(super) async fn spans(
        &self,
        scene: &mut Scene<'_>,
        places: &[Place<'_>],
    ) -> Result<Vec<Span>, SyncError> {
        let event_ids = |place: &Place<'_>| -> Vec<OwnedEventId> {
            let event = |fact: &Fact| match fact {
                Fact::Event { event_id } => Some(event_id.clone()),
                _ => None,
            };
            place.facts().filter_map(event).collect()
        };
        let ids: Vec<Vec<OwnedEventId>> = places.iter().map(event_ids).collect();
        let mut events = self.history.events(&ids.concat()).await?.into_iter();
        let mut spans = Vec::with_capacity(places.len());
        for (place, ids) in places.iter().zip(&ids) {
            let covered: Vec<_> = events.by_ref().take(ids.len()).flatten().collect();
            let mut span = self.span(scene, place, covered).await?;
            self.fill(scene, place, &mut span).await?;
            spans.push(span);
        }
        self.cut_at_gaps(places, &mut spans).await?;
        if scene.channel.is_empty() && scene.request.dialect == StateDialect::Before {
            spans.iter_mut().for_each(Span::cut_where_overtaken);
        }
        if scene.request.filter.room.timeline.limit.is_some_and(|limit| limit == UInt::MIN) {
            spans.iter_mut().for_each(Span::empty);
        }
        Ok(spans)
    }

    /// Cuts each span at the last place where events are missing, or have been filled in since: they are not
    /// in the timeline of the log, and a client gets them by walking back from here.
    async fn cut_at_gaps(&self, places: &[Place<'_>], spans: &mut [Span]) -> Result<(), SyncError> {
        let mut before = Vec::new();
        for span in spans.iter() {
            let covered: HashSet<&EventId> = span.covered.iter().map(|event| event.pdu.event_id()).collect();
            let prev = span.covered.iter().flat_map(|event| event.pdu.prev_events());
            before.extend(prev.filter(|id| !covered.contains(&***id)).cloned());
        }
        let before = self.history.event_map(&before).await?;
        for (place, span) in places.iter().zip(spans) {
            let covered: HashSet<&EventId> = span.covered.iter().map(|event| event.pdu.event_id()).collect();
            let is_lacking = |id: &OwnedEventId| {
                !covered.contains(&**id) && before.get(id).is_none_or(|event| !event.is_of_timeline())
            };
            let gap = span.covered.iter().rposition(|event| event.pdu.prev_events().iter().any(is_lacking));
            if let Some(gap) = gap {
                span.cut(gap);
                span.jumps |= !place.is_new;
            }
        }
        Ok(())
    }

    async fn span(
        &self,
        scene: &mut Scene<'_>,
        place: &Place<'_>,
        covered: Vec<Arc<StoredEvent>>,
    ) -> Result<Span, SyncError> {
        let gap = place.slice.is_some_and(|slice| slice.gap);
        let begins = match covered.first() {
            Some(first) => Position(first.position.0.saturating_sub(1)),
            None => place.ends,
        };
        let begins_room = covered.first().is_some_and(|first| first.pdu.prev_events().is_empty());
        let moved = place.facts().any(Fact::moves_state);
        Ok(Span {
            shown: self.shown(scene, &covered).await?,
            begins,
            ends: place.ends,
            // What a client kept of a room from before it came back does not join on to what it gets now.
            limited: gap || (place.returns && !begins_room),
            jumps: moved || (gap && !place.is_new),
            covered,
        })
    }

    /// Those events that the user may see and wants.
    async fn shown(
        &self,
        scene: &mut Scene<'_>,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Arc<StoredEvent>>, SyncError> {
        let (filter, relations) = (&scene.request.filter.room.timeline, &scene.request.relations);
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let pdu = &event.pdu;
            let ignored = pdu.state_key().is_none() && scene.person.ignored.contains(pdu.sender());
            let wanted = !ignored && kind_wanted(filter, pdu.room_id()) && wants(filter, pdu);
            if wanted
                && relations.passes(pdu)
                && scene.viewer.sees(event).await?
                && relations.is_met(&mut scene.viewer, event).await?
            {
                shown.push(event.clone());
            }
        }
        Ok(shown)
    }

    /// Goes on looking at older events while the filter has let through few and there are more.
    async fn fill(&self, scene: &mut Scene<'_>, place: &Place<'_>, span: &mut Span) -> Result<(), SyncError> {
        let limit = place.limit;
        let from = if place.is_new { Position::ZERO } else { place.from };
        let gap = place.slice.is_some_and(|slice| slice.gap);
        let request = scene.request;
        let selective = is_selective(&request.filter.room.timeline)
            || request.relations.is_selective()
            || !scene.person.ignored.is_empty();
        if !gap || !selective || span.covered.is_empty() {
            return Ok(());
        }
        let mut moves_state = place.facts().any(Fact::moves_state);
        for _ in 0..SYNC_FILL_ROUNDS {
            if span.shown.len() >= limit {
                return Ok(());
            }
            let range = (from, span.begins);
            let facts = self.log.timeline(&place.room, range, Direction::Backward, limit * 4).await?;
            let ends = facts.len() < limit * 4;
            let oldest = facts.last().map(|(at, _)| *at);
            moves_state |= facts.iter().any(|(_, fact)| fact.moves_state());
            let ids: Vec<OwnedEventId> =
                facts.into_iter().rev().filter_map(|(_, fact)| event_id(fact)).collect();
            let mut older: Vec<_> = self.history.events(&ids).await?.into_iter().flatten().collect();
            let mut shown = self.shown(scene, &older).await?;
            if let Some(cut) = (shown.len() + span.shown.len()).checked_sub(limit).filter(|cut| *cut > 0) {
                // The page ends with the oldest event that it has room for.
                shown.drain(..cut);
                let first = shown.first().map_or(span.begins, |event| event.position);
                older.retain(|event| event.position >= first);
                span.begins = Position(first.0.saturating_sub(1));
            } else {
                span.begins = oldest.map_or(from, |at| Position(at.0.saturating_sub(1)));
            }
            span.shown.splice(0..0, shown);
            span.covered.splice(0..0, older);
            if ends && span.shown.len() < limit {
                // Everything since the client's token has been looked at.
                span.limited = place.returns;
                span.jumps = moves_state;
                span.begins = from;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The timelines as the client gets them.
    pub(super) async fn timelines(
        &self,
        scene: &mut Scene<'_>,
        places: &[Place<'_>],
        spans: &[Span],
    ) -> Result<Vec<Timeline>, SyncError> {
        let all: Vec<Arc<StoredEvent>> = spans.iter().flat_map(|span| span.shown.iter().cloned()).collect();
        let mut rendered = self.render_events(scene, &all).await?.into_iter();
        let mut timelines = Vec::with_capacity(spans.len());
        for (place, span) in places.iter().zip(spans) {
            let events: Vec<Json> = rendered.by_ref().take(span.shown.len()).collect();
            let says = !events.is_empty() || span.limited || place.is_new;
            let prev_batch = says.then(|| boundary(span.begins));
            timelines.push(Timeline { events, limited: span.limited, prev_batch });
        }
        Ok(timelines)
    }

    /// Events as the client gets them in a timeline.
    pub(super) async fn render_events(
        &self,
        scene: &mut Scene<'_>,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Json>, SyncError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let bundles = scene.viewer.bundles(events).await?;
        self.render_as_wanted(scene, events, &bundles).await
    }

    /// Events in the format and with the fields that the filter asks for.
    pub(super) async fn render_as_wanted(
        &self,
        scene: &mut Scene<'_>,
        events: &[Arc<StoredEvent>],
        bundles: &Bundles,
    ) -> Result<Vec<Json>, SyncError> {
        let filter = &scene.request.filter;
        let rendered = match filter.event_format {
            EventFormat::Federation => scene.viewer.render_pdus(events)?,
            _ => scene.viewer.render(events, Shape::Sync, bundles).await?,
        };
        Ok(match &filter.event_fields {
            Some(wanted) => fields::pick_all(rendered, wanted),
            None => rendered,
        })
    }
}

fn event_id(fact: Fact) -> Option<OwnedEventId> {
    match fact {
        Fact::Event { event_id } => Some(event_id),
        _ => None,
    }
}
