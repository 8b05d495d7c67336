//! What has happened in a room before its members were known is judged again, now that they are.
//!
//! Everything since our join gets the states that it has on every other server: from the state before the join as it is known now, event
//! by event, in the order of the graph. What is found bad by them is in no state after that and shown no more; what
//! was found bad wrongly is received again, as late as it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use ruma::OwnedEventId;

use super::{Given, batch::ordered};
use crate::{
    dag::{Signed, StateId, Verdict, build::Head},
    history::{
        EventNotes, States, Status, StoredEvent,
        tables::{GAPS, GapRow, HeadRow, Part, UNJUDGED},
    },
    limits::{GAP_EVENTS_MAX, PAGE_EVENTS_MAX, UNJUDGED_NEWS_MAX},
    log::Direction,
    room::{RoomError, turn::Turn},
    types::{Fact, Position},
};

type Played = BTreeMap<OwnedEventId, Arc<StoredEvent>>;

impl Turn {
    /// Judges everything since our join as if `before` had been the state before it. The current state is left to
    /// [`Self::state_of_heads`].
    pub(super) async fn replay_since(
        &mut self,
        join: &Arc<StoredEvent>,
        before: StateId,
    ) -> Result<(), RoomError> {
        let Some(states) = join.states else { return Ok(()) };
        let mut played = self.shown_since(join).await?;
        played.extend(self.hidden_since().await?);
        played.remove(join.pdu.event_id());
        let entry = match join.pdu.prev_events() {
            [prev] => Some((prev.clone(), before)),
            _ => None,
        };
        let given = Given { entry, ..Given::default() };
        // From here on nobody is believed to be what they are not known to be.
        self.row.partial = false;
        let after = self.with_event(before, &join.pdu).await?;
        self.row.heads = vec![HeadRow::from(Head::of(&join.pdu, self.rules))];
        self.row.state = self.amended(after).await?;
        self.rewrite(StoredEvent { states: Some(States { before, after, ..states }), ..(**join).clone() });
        let followed = self.before(join.pdu.prev_events().to_vec(), &played).await?;
        let mut earlier = Vec::new();
        for id in in_order(&played) {
            let event = &played[&id];
            if let Some(state) = self.play(event, &given, &played).await? {
                self.row.state = self.follow_on(&event.pdu, state, followed.contains(&id)).await?;
                let prevs = event.pdu.prev_events().iter();
                earlier.extend(prevs.filter(|prev| !played.contains_key(*prev)).cloned());
            }
        }
        // What lies before something from an earlier stay that they follow is followed too.
        let earlier = self.before(earlier, &played).await?;
        if self.row.heads.iter().any(|head| !earlier.contains(&head.id)) {
            self.row.heads.retain(|head| !earlier.contains(&head.id));
        }
        self.row.partial = true;
        Ok(())
    }

    /// Has nothing be built on what was judged in a stay whose members were never known. What was found bad has not been
    /// judged.
    pub(super) async fn distrust_since(&mut self, join: &StoredEvent) -> Result<(), RoomError> {
        let shown = self.shown_since(join).await?;
        for event in shown.into_values().filter(|event| event.status == Status::Timeline) {
            let notes = EventNotes { unsound: true, ..event.notes.clone() };
            self.rewrite(StoredEvent { notes, ..(*event).clone() });
        }
        for event in self.hidden_since().await?.into_values() {
            let notes = EventNotes { reason: None, ..event.notes.clone() };
            self.rewrite(StoredEvent { status: Status::Outlier, states: None, notes, ..(*event).clone() });
        }
        Ok(())
    }

    /// The state of the room by the events that nothing follows.
    pub(super) async fn state_of_heads(&mut self) -> Result<StateId, RoomError> {
        let mut states = BTreeSet::new();
        for head in self.row.heads.clone() {
            let known = self.known(&head.id).await?.and_then(|head| head.states);
            states.extend(known.map(|states| states.after));
        }
        let state = self.resolve(states.into_iter().collect()).await?;
        self.amended(state).await
    }

    fn rewrite(&mut self, event: StoredEvent) {
        self.fresh.insert(event.pdu.event_id().to_owned(), event.clone());
        self.rewritten.push(event);
    }

    /// The events of `queue` and what lies before them, as far as it is no older than those that are judged again.
    async fn before(
        &self,
        mut queue: Vec<OwnedEventId>,
        played: &Played,
    ) -> Result<HashSet<OwnedEventId>, RoomError> {
        let least = played.values().map(|event| event.pdu.depth()).min().unwrap_or_default();
        let mut before = HashSet::new();
        while let Some(id) = queue.pop() {
            if before.len() >= GAP_EVENTS_MAX || before.contains(&id) {
                continue;
            }
            if let Some(event) = self.known(&id).await?.filter(|event| event.pdu.depth() >= least) {
                queue.extend(event.pdu.prev_events().iter().cloned());
            }
            before.insert(id);
        }
        Ok(before)
    }

    /// Judges one event again. The state after it, if it is accepted.
    async fn play(
        &mut self,
        event: &Arc<StoredEvent>,
        given: &Given,
        played: &Played,
    ) -> Result<Option<StateId>, RoomError> {
        let Some(old) = event.states else { return Ok(None) };
        let before = self.state_again(event, old.before, given).await?;
        let given = Given { before: Some(before), ..Given::default() };
        let (verdict, _) = self.verdict(&Signed::ours(event.pdu.clone()), &given).await?;
        // What was current then is what clients have been told.
        let states =
            States { before, after: self.with_event(before, &event.pdu).await?, current: old.current };
        // Whatever it was doubted for before, the state before it is known now.
        let notes = EventNotes { unsound: false, ..event.notes.clone() };
        let mut again = StoredEvent { states: Some(states), notes, ..(**event).clone() };
        let refusal = match verdict {
            Verdict::Accepted(_) | Verdict::Missing(_) => None,
            Verdict::SoftFailed(_, why) => Some((Status::SoftFailed, why.0)),
            Verdict::Rejected(_, why) => Some((Status::Rejected, why.0)),
        };
        if let Some((status, reason)) = refusal {
            self.unrelate(event).await?;
            again.status = status;
            again.notes = EventNotes { reason: Some(reason), ..again.notes };
            if status == Status::Rejected {
                again.states = Some(States { after: before, ..states });
            }
            self.rewrite(again);
            return Ok(None);
        }
        let is_late = event.status != Status::Timeline;
        if is_late {
            // Others build on it already; it is no news to the graph when it comes again.
            let id = event.pdu.event_id();
            let follows = |other: &&Arc<StoredEvent>| other.pdu.prev_events().iter().any(|prev| prev == id);
            if let Some(follower) = played.values().find(follows) {
                self.leave_gap(event, follower);
            }
            again.status = Status::Outlier;
            again.notes.reason = None;
            self.fresh.insert(event.pdu.event_id().to_owned(), again.clone());
            self.rewritten.push(StoredEvent { states: None, ..again });
        } else {
            self.rewrite(again);
        }
        Ok(Some(states.after))
    }

    fn leave_gap(&mut self, event: &StoredEvent, follower: &StoredEvent) {
        let key = (self.room_id.clone(), event.pdu.event_id().to_owned());
        let (child, depth) = (follower.pdu.event_id().to_owned(), follower.pdu.depth());
        self.row.gaps += 1;
        self.extra.push(Box::new(move |commit| {
            commit.put(&GAPS, &key, &GapRow { child, depth, anchor: None });
        }));
    }

    /// The state before an event from those after what it follows; what was claimed of the others stands.
    async fn state_again(
        &mut self,
        event: &StoredEvent,
        old: StateId,
        given: &Given,
    ) -> Result<StateId, RoomError> {
        let mut states = BTreeSet::new();
        for id in event.pdu.prev_events() {
            let entry = given.entry.as_ref().filter(|(entry, _)| entry == id).map(|(_, after)| *after);
            let known = self.known(id).await?.filter(|known| known.pdu.room_id() == self.room_id);
            let known = known.and_then(|known| known.sound_states()).map(|states| states.after);
            states.insert(known.or(entry).unwrap_or(old));
        }
        let before = self.resolve(states.into_iter().collect()).await?;
        self.amended(before).await
    }

    async fn shown_since(&self, join: &StoredEvent) -> Result<Played, RoomError> {
        let history = self.rooms.0.history.clone();
        let mut from = Position(join.position.0.saturating_sub(1));
        let mut shown = Played::new();
        loop {
            let range = (from, history.log().head());
            let facts =
                history.log().timeline(&self.room_id, range, Direction::Forward, PAGE_EVENTS_MAX).await?;
            let Some((last, _)) = facts.last() else { return Ok(shown) };
            from = *last;
            let ids = facts.into_iter().filter_map(|(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            });
            let ids: Vec<OwnedEventId> = ids.collect();
            let events = history.events(&ids).await?.into_iter().flatten();
            shown.extend(events.map(|event| (event.pdu.event_id().to_owned(), event)));
        }
    }

    /// What was found bad.
    async fn hidden_since(&self) -> Result<Played, RoomError> {
        let history = self.rooms.0.history.clone();
        let key = (self.room_id.clone(), Part::News.number());
        let kept = history.log().db().range(&UNJUDGED, &key, UNJUDGED_NEWS_MAX).await?;
        let ids: Vec<OwnedEventId> = kept.into_iter().map(|((_, _, id), _)| id).collect();
        let events = history.events(&ids).await?.into_iter().flatten();
        let hidden = events.filter(|event| event.states.is_some() && event.status != Status::Timeline);
        Ok(hidden.map(|event| (event.pdu.event_id().to_owned(), event)).collect())
    }
}

/// The events, each after those that it follows.
fn in_order(played: &Played) -> Vec<OwnedEventId> {
    let mut by_age: Vec<&OwnedEventId> = played.keys().collect();
    by_age.sort_by_key(|id| (played[*id].pdu.depth(), played[*id].position, (*id).clone()));
    let named = |id: &OwnedEventId| played.get(id).into_iter().flat_map(|event| event.pdu.prev_events());
    let order = ordered(by_age.into_iter(), named);
    let mut seen = HashSet::new();
    order.into_iter().filter(|id| played.contains_key(*id) && seen.insert(*id)).cloned().collect()
}
