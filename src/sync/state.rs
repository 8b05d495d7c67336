//! The state of rooms in a page: what the client lacks to know the state where the timeline starts, or
//! where it ends.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId, events::StateEventType};

use super::{
    StateDialect, Sync, SyncError,
    filter::{is_lazy, is_redundant, kind_wanted, wants},
    response::Json,
    rooms::{Place, Scene},
    timeline::Span,
};
use crate::{
    dag::{StateId, StateKey, tree::Entry},
    history::{Bundles, StoredEvent},
    limits::SCAN_ROWS_MAX,
    log::Direction,
    types::{Fact, Position},
};

/// The state of one room in a page.
#[derive(Default)]
pub(super) struct StatePart {
    /// The events.
    pub(super) events: Vec<Json>,
    /// Whether members of the room may have changed within the page.
    pub(super) members_moved: bool,
    /// Whether the room may be called otherwise than before.
    pub(super) name_moved: bool,
}

/// The states between which a page lies.
#[derive(Clone, Copy)]
struct Bounds {
    /// What the client has: at its token.
    since: StateId,
    /// Before the events of the timeline.
    begins: StateId,
    /// After them.
    ends: StateId,
}

/// What is chosen for one room, before it is loaded.
#[derive(Default)]
struct Choice {
    ids: Vec<OwnedEventId>,
    /// Members that are sent only because the client may not have them.
    lazy: Vec<(OwnedUserId, OwnedEventId)>,
    /// Those who are needed and whose member events are in the timeline itself.
    shown: Vec<OwnedUserId>,
    members_moved: bool,
    name_moved: bool,
}

impl Sync {
    /// The state events that go with each timeline.
    pub(super) async fn states(
        &self,
        scene: &mut Scene<'_>,
        places: &[Place<'_>],
        spans: &[Span],
    ) -> Result<Vec<StatePart>, SyncError> {
        let bounds = self.bounds(scene, places, spans).await?;
        let mut choices = Vec::with_capacity(places.len());
        for ((place, span), bounds) in places.iter().zip(spans).zip(bounds) {
            choices.push(match bounds {
                Some(bounds) => self.choose(scene, place, span, bounds).await?,
                None => Choice::default(),
            });
        }
        let ids: Vec<OwnedEventId> = choices.iter().flat_map(|choice| choice.ids.iter().cloned()).collect();
        let mut events = self.history.events(&ids).await?.into_iter();
        let mut parts = Vec::with_capacity(places.len());
        for (place, choice) in places.iter().zip(choices) {
            let events: Vec<_> = events.by_ref().take(choice.ids.len()).flatten().collect();
            let events = self.render_state(scene, place, events).await?;
            scene.members.push((place.room.clone(), choice.lazy));
            scene.shown.extend(choice.shown);
            let Choice { members_moved, name_moved, .. } = choice;
            parts.push(StatePart { events, members_moved, name_moved });
        }
        Ok(parts)
    }

    /// The bounds of each room; nothing for rooms whose state plays no part.
    async fn bounds(
        &self,
        scene: &Scene<'_>,
        places: &[Place<'_>],
        spans: &[Span],
    ) -> Result<Vec<Option<Bounds>>, SyncError> {
        // Positions at which a state has to be looked up, and whose bounds it belongs to.
        let mut wanted: Vec<(OwnedRoomId, Position)> = Vec::new();
        for (place, span) in places.iter().zip(spans) {
            let whole = place.is_whole(scene.request);
            if span.covered.is_empty() && !span.jumps {
                if whole {
                    wanted.push((place.room.clone(), span.ends));
                }
            } else if !span.is_still() {
                wanted.push((place.room.clone(), span.begins));
                if span.jumps {
                    wanted.push((place.room.clone(), span.ends));
                }
                if !place.is_new {
                    wanted.push((place.room.clone(), place.from));
                }
            }
        }
        let found = self.states_at(&wanted).await?;
        let at = |place: &Place<'_>, position: Position| {
            found.get(&(place.room.clone(), position)).copied().unwrap_or(StateId::EMPTY)
        };
        let bounds = |(place, span): (&Place<'_>, &Span)| {
            let last = span.covered.last().and_then(|event| event.states).map(|states| states.current);
            if span.covered.is_empty() && !span.jumps {
                let all = at(place, span.ends);
                return place.is_whole(scene.request).then_some(Bounds {
                    since: all,
                    begins: all,
                    ends: all,
                });
            }
            if span.is_still() {
                return last.map(|all| Bounds { since: all, begins: all, ends: all });
            }
            let begins = at(place, span.begins);
            let since = if place.is_new { StateId::EMPTY } else { at(place, place.from) };
            let ends = match span.jumps {
                true => at(place, span.ends),
                false => last.unwrap_or(begins),
            };
            Some(Bounds { since, begins, ends })
        };
        Ok(places.iter().zip(spans).map(bounds).collect())
    }

    /// The current states of rooms at positions.
    pub(super) async fn states_at(
        &self,
        wanted: &[(OwnedRoomId, Position)],
    ) -> Result<BTreeMap<(OwnedRoomId, Position), StateId>, SyncError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ranges: Vec<_> = wanted.iter().map(|(room, at)| (room.clone(), Position::ZERO, *at)).collect();
        let facts = self.log.timelines(&ranges, Direction::Backward, 1).await?;
        let mut ids = Vec::with_capacity(wanted.len());
        for (facts, (room, at)) in facts.into_iter().zip(wanted) {
            ids.push(match facts.into_iter().next() {
                Some((_, Fact::Event { event_id })) => Ok(event_id),
                // Something else came last: look further.
                Some(_) => Err(self.history.state_at_position(room, *at).await?),
                None => Err(StateId::EMPTY),
            });
        }
        let named: Vec<OwnedEventId> = ids.iter().filter_map(|id| id.as_ref().ok()).cloned().collect();
        let known = self.history.event_map(&named).await?;
        let state = |id: Result<OwnedEventId, StateId>| match id {
            Ok(id) => {
                let states = known.get(&id).and_then(|event| event.states);
                states.map_or(StateId::EMPTY, |states| states.current)
            }
            Err(state) => state,
        };
        Ok(wanted.iter().cloned().zip(ids.into_iter().map(state)).collect())
    }

    /// Which state events one room's client lacks.
    async fn choose(
        &self,
        scene: &Scene<'_>,
        place: &Place<'_>,
        span: &Span,
        bounds: Bounds,
    ) -> Result<Choice, SyncError> {
        let request = scene.request;
        let before = request.dialect == StateDialect::Before;
        let target = if before { bounds.begins } else { bounds.ends };
        let whole = place.is_whole(request);
        let lazy = is_lazy(&request.filter.room);
        // Whoever asks for members when they are needed does not get all that have become known.
        let became_whole = self.history.grown_after(&place.room, place.from).await?;
        let grown = lazy && became_whole.is_some_and(|at| at <= place.ends);
        let mut chosen: BTreeMap<StateKey, OwnedEventId> = BTreeMap::new();
        let mut members_moved = whole || place.is_new;
        let mut name_moved = members_moved;
        if whole {
            let entries = self.history.state_of(target, None).await?;
            let keep = |entry: &Entry| !lazy || entry.key.event_type != StateEventType::RoomMember;
            let kept = entries.into_iter().filter(keep);
            chosen.extend(kept.map(|entry| (entry.key, entry.value.event_id)));
        }
        // Of members that the client may have, it hears whatever it asks for.
        if !whole || (lazy && !place.is_new) {
            for change in self.history.state_diff(bounds.since, target).await? {
                let is_member = change.key.event_type == StateEventType::RoomMember;
                members_moved |= is_member;
                name_moved |= is_name(&change.key);
                if grown && is_member && change.before.is_none() {
                    continue;
                }
                chosen.extend(change.after.map(|value| (change.key, value.event_id)));
            }
        }
        // What moved within the timeline and is not shown there must come with the state.
        let hidden = self.history.state_diff(bounds.begins, bounds.ends).await?;
        members_moved |= hidden.iter().any(|change| change.key.event_type == StateEventType::RoomMember);
        name_moved |= hidden.iter().any(|change| is_name(&change.key));
        if before {
            let shown: HashSet<_> = span.shown.iter().map(|event| event.pdu.event_id()).collect();
            for change in hidden {
                let is_member = change.key.event_type == StateEventType::RoomMember;
                if (grown || (lazy && whole)) && is_member && change.before.is_none() {
                    continue;
                }
                if let Some(value) = change.after.filter(|value| !shown.contains(&*value.event_id)) {
                    chosen.insert(change.key, value.event_id);
                }
            }
        }
        let mut choice = Choice { members_moved, name_moved, ..Choice::default() };
        if lazy {
            let states = (target, bounds.ends);
            self.choose_members(scene, (place, span), states, (&mut chosen, &mut choice)).await?;
        }
        choice.ids.extend(chosen.into_values());
        Ok(choice)
    }

    /// Adds the members that a lazy client needs: who speaks in the timeline, and where the room is
    /// called by its members, the user and those.
    async fn choose_members(
        &self,
        scene: &Scene<'_>,
        (place, span): (&Place<'_>, &Span),
        (target, ends): (StateId, StateId),
        (chosen, choice): (&mut BTreeMap<StateKey, OwnedEventId>, &mut Choice),
    ) -> Result<(), SyncError> {
        let mut needed: BTreeSet<OwnedUserId> =
            span.shown.iter().map(|event| event.pdu.sender().to_owned()).collect();
        let whole = place.is_whole(scene.request);
        if whole {
            needed.insert(scene.caller.user_id.clone());
        }
        if place.is_joined && (choice.members_moved || choice.name_moved) {
            needed.extend(self.heroes(&scene.caller.user_id, &place.room, span).await?);
        }
        let keys: Vec<StateKey> = needed.iter().map(|user| member(user)).collect();
        let mut found = self.history.state_entries(target, &keys).await?;
        if target != ends && found.iter().any(Option::is_none) {
            // Of whom nothing was known until they spoke.
            let later = self.history.state_entries(ends, &keys).await?;
            let is_shown = |id: &OwnedEventId| span.shown.iter().any(|event| event.pdu.event_id() == id);
            for (found, later) in found.iter_mut().zip(later) {
                if found.is_none() {
                    *found = later.filter(|value| !is_shown(&value.event_id));
                }
            }
        }
        for ((user, key), value) in needed.into_iter().zip(keys).zip(found) {
            let Some(value) = value else {
                choice.shown.push(user);
                continue;
            };
            let knows = !whole
                && !is_redundant(&scene.request.filter.room)
                && self.lazy.has((scene.caller, ""), &place.room, (&user, &value.event_id), place.from);
            if !knows {
                // What has replaced it within the timeline, unseen, stands.
                let id = chosen.entry(key).or_insert(value.event_id);
                choice.lazy.push((user, id.clone()));
            }
        }
        Ok(())
    }

    async fn render_state(
        &self,
        scene: &mut Scene<'_>,
        place: &Place<'_>,
        mut events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Json>, SyncError> {
        let filter = &scene.request.filter.room.state;
        events.retain(|event| kind_wanted(filter, &place.room) && wants(filter, &event.pdu));
        if let Some(limit) = filter.limit {
            events.truncate(usize::try_from(u64::from(limit)).unwrap_or(SCAN_ROWS_MAX));
        }
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.render_as_wanted(scene, &events, &Bundles::new()).await
    }
}

/// Whether a room without such a state event is called by its members.
fn is_name(key: &StateKey) -> bool {
    matches!(key.event_type, StateEventType::RoomName | StateEventType::RoomCanonicalAlias)
}

fn member(user: &UserId) -> StateKey {
    StateKey::new(StateEventType::RoomMember, user.as_str())
}
