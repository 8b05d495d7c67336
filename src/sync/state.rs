//! The state of a room in a page: what the client lacks to know the state where its timeline starts,
//! or ends.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedUserId, events::StateEventType};

use super::{
    StateDialect, Sync, SyncError,
    filter::{is_lazy, kind_wanted, passes},
    response::Json,
    room::{Place, Scene},
    timeline::Span,
};
use crate::dag::{StateId, StateKey, StateValue};

impl Sync {
    /// The state events that go with a timeline.
    pub(super) async fn state(
        &self,
        scene: &mut Scene<'_>,
        place: &Place<'_>,
        span: &Span,
    ) -> Result<Vec<Json>, SyncError> {
        let filter = &scene.request.filter.room;
        if !kind_wanted(&filter.state, place.room) {
            return Ok(Vec::new());
        }
        let after = scene.request.dialect != StateDialect::Before;
        let moves = after && span.events.iter().any(|event| event.pdu.state_key().is_some());
        let lazy = is_lazy(filter);
        if !place.is_new && !span.moved && !moves && !lazy {
            return Ok(Vec::new());
        }
        let target = match after {
            true => self.history.state_at_position(place.room, span.ends).await?,
            false => self.history.state_at_position(place.room, span.begins).await?,
        };
        let needed = match lazy {
            true => Some(self.needed_members(scene, place, span).await?),
            false => None,
        };
        let mut ids: Vec<OwnedEventId> = match place.is_new {
            true => self.whole(target, needed.as_ref()).await?,
            false if span.moved || moves => {
                let before = self.history.state_at_position(place.room, scene.cut.from.log).await?;
                let changes = self.history.state_diff(before, target).await?;
                changes.into_iter().filter_map(|change| Some(change.after?.event_id)).collect()
            }
            false => Vec::new(),
        };
        if let (Some(needed), false) = (&needed, place.is_new) {
            let keys: Vec<StateKey> = needed.iter().map(member).collect();
            let members = self.history.state_entries(target, &keys).await?;
            ids.extend(members.into_iter().flatten().map(|value| value.event_id));
        }
        self.render_state(scene, span, ids).await
    }

    async fn render_state(
        &self,
        scene: &mut Scene<'_>,
        span: &Span,
        ids: Vec<OwnedEventId>,
    ) -> Result<Vec<Json>, SyncError> {
        let mut seen = BTreeSet::new();
        let ids: Vec<OwnedEventId> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let filter = &scene.request.filter.room.state;
        let mut events: Vec<_> = self.history.events(&ids).await?.into_iter().flatten().collect();
        events.retain(|event| {
            let event_type = event.pdu.event_type().to_string();
            passes(filter, (&event_type, event.pdu.sender(), event.pdu.content()))
        });
        if scene.request.dialect == StateDialect::Before {
            // What the timeline brings need not come twice.
            events.retain(|event| {
                !span.events.iter().any(|shown| shown.pdu.event_id() == event.pdu.event_id())
            });
        }
        self.render_events(scene, &events).await
    }

    /// All of a state, of its members only those needed.
    async fn whole(
        &self,
        state: StateId,
        needed: Option<&BTreeSet<OwnedUserId>>,
    ) -> Result<Vec<OwnedEventId>, SyncError> {
        let is_needed = |key: &StateKey| match needed {
            Some(needed) if key.event_type == StateEventType::RoomMember => {
                needed.iter().any(|user| user.as_str() == key.state_key)
            }
            _ => true,
        };
        let entries = self.history.state_of(state, None).await?;
        let entries = entries.into_iter().filter(|entry| is_needed(&entry.key));
        Ok(entries.map(|entry| -> StateValue { entry.value }).map(|value| value.event_id).collect())
    }

    /// The members that a lazy client needs: who speaks in the timeline, and for a new room the user
    /// and those by whom the room is called.
    async fn needed_members(
        &self,
        scene: &Scene<'_>,
        place: &Place<'_>,
        span: &Span,
    ) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let mut needed: BTreeSet<OwnedUserId> =
            span.events.iter().map(|event| event.pdu.sender().to_owned()).collect();
        if place.is_new {
            needed.insert(scene.caller.user_id.clone());
            needed.extend(self.heroes(scene, place).await?);
        }
        Ok(needed)
    }
}

fn member(user: &OwnedUserId) -> StateKey {
    StateKey::new(StateEventType::RoomMember, user.as_str())
}
