//! Judging an event with everything at hand, and putting it into the room.

use std::collections::{BTreeSet, HashMap};

use ruma::{EventId, OwnedEventId, events::StateEventType};

use super::{Given, ReceiveFailure};
use crate::{
    dag::{
        Denied, Pdu, RoomView, Signed, StateId, StateKey, Verdict, auth, build::Head, extremities, judge,
        pdu::create_of_room, tree::NewNode,
    },
    history::{EventNotes, Fresh, States, Status, StoredEvent, tables::HeadRow},
    limits::{EXTREMITY_WALK_MAX, TURN_EVENTS_MAX},
    room::{
        RoomError,
        turn::{Places, Turn},
    },
    store::StoreError,
    types::Position,
};

/// How an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::room) enum Way {
    /// As news; with `relay`, the other servers get it from us.
    Live {
        /// Whether its server asked us to bring it into the room.
        relay: bool,
    },
    /// As part of the past, after a position of the timeline, with a number that orders it there; see
    /// [`crate::history::Boundary`].
    Past(Position, u64),
}

impl Way {
    /// How the event comes that is this far on in its batch.
    pub(super) fn nth(self, index: usize) -> Self {
        match self {
            Self::Past(anchor, number) => {
                Self::Past(anchor, number.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)))
            }
            live => live,
        }
    }
}

/// What became of an event.
#[derive(Clone, Debug)]
pub(in crate::room) enum Outcome {
    /// It was here already and needs nothing.
    Known,
    /// It is part of the room.
    Accepted,
    /// It is kept and not shown.
    SoftFailed,
    /// It is kept, marked as rejected.
    Rejected(String),
    /// It was not judged.
    Missing,
}

impl Outcome {
    /// Whether something was learned.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::Accepted | Self::SoftFailed | Self::Rejected(_))
    }

    /// What its sender is told. A soft failure is no business of theirs.
    pub(super) fn result(self) -> Result<(), ReceiveFailure> {
        match self {
            Self::Known | Self::Accepted | Self::SoftFailed => Ok(()),
            Self::Rejected(reason) => Err(ReceiveFailure::Rejected(reason)),
            Self::Missing => Err(ReceiveFailure::Missing),
        }
    }
}

/// What a judgement looks at.
struct View {
    events: HashMap<OwnedEventId, Pdu>,
    before: Option<Places>,
    current: Places,
}

impl RoomView for View {
    fn event(&self, event_id: &EventId) -> Option<Pdu> {
        self.events.get(event_id).cloned()
    }

    fn knows_state_before(&self) -> bool {
        self.before.is_some()
    }

    fn state_before(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        self.before.as_ref()?.get(event_type, state_key)
    }

    fn current_state(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        self.current.get(event_type, state_key)
    }
}

impl Turn {
    /// Knows nodes that are not stored yet, and has them stored.
    pub(super) fn adopt(&mut self, nodes: &[NewNode]) {
        self.nodes.extend(nodes.iter().map(|node| (node.id, node.node.clone())));
        self.new_nodes.extend(nodes.iter().cloned());
    }

    /// Whether what was taken so far should be written before more is taken.
    pub(super) fn is_round(&self) -> bool {
        // What is counted from the store must be there: threads, and relations of what was redacted.
        let counts = |written: &crate::room::turn::Written| {
            written.related.as_ref().is_some_and(|related| !related.is_plain())
        };
        self.written.len() + self.hidden.len() >= TURN_EVENTS_MAX
            || !self.rewritten.is_empty()
            || !self.extra.is_empty()
            || self.written.last().is_some_and(counts)
    }

    /// Judges an event and takes it into the room, or keeps it as what it is found to be.
    pub(super) async fn take(
        &mut self,
        event: &Signed,
        given: &Given,
        way: Way,
    ) -> Result<Outcome, RoomError> {
        let stored = self.known(event.pdu().event_id()).await?;
        if let Some(stored) = &stored
            && let Some(outcome) = settled(stored)
        {
            return Ok(outcome);
        }
        // What is stored may have been redacted meanwhile.
        let kept = stored.as_ref().map(|stored| Signed::ours(stored.pdu.clone()));
        let event = kept.as_ref().unwrap_or(event);
        let notes = stored.as_ref().map(|stored| stored.notes.clone()).unwrap_or_default();
        let (pdu, before, refusal) = match self.verdict(event, given).await? {
            (Verdict::Missing(missing), _) => {
                tracing::debug!(event.id = %event.pdu().event_id(), ?missing, "left an event unjudged");
                return Ok(Outcome::Missing);
            }
            (Verdict::Rejected(pdu, why), before) => {
                let states = before.map(|before| States { before, after: before, current: self.row.state });
                let is_news = stored.is_none_or(|stored| stored.states != states);
                if is_news {
                    if states.is_some() {
                        self.pass_gap_on(&pdu).await?;
                    }
                    let notes = EventNotes { reason: Some(why.0.clone()), ..notes };
                    self.judge_later(&pdu, way);
                    self.hide(pdu, Status::Rejected, states, notes);
                }
                return Ok(Outcome::Rejected(why.0));
            }
            (Verdict::Accepted(pdu), Some(before)) => (pdu, before, None),
            (Verdict::SoftFailed(pdu, _), Some(before)) if matches!(way, Way::Past(..)) => {
                (pdu, before, None)
            }
            (Verdict::SoftFailed(pdu, why), Some(before)) => (pdu, before, Some(why)),
            (Verdict::Accepted(_) | Verdict::SoftFailed(..), None) => {
                return Ok(Outcome::Missing);
            }
        };
        let refusal = match refusal {
            None if matches!(way, Way::Live { .. }) && self.is_discouraged(&pdu).await? => {
                Some(Denied(String::from("the room's policy server has not recommended it")))
            }
            refusal => refusal,
        };
        let after = self.with_event(before, &pdu).await?;
        if let Some(why) = refusal {
            let notes = EventNotes { reason: Some(why.0), ..notes };
            let states = States { before, after, current: self.row.state };
            self.pass_gap_on(&pdu).await?;
            self.judge_later(&pdu, way);
            self.hide(pdu, Status::SoftFailed, Some(states), notes);
            return Ok(Outcome::SoftFailed);
        }
        let (pdu, notes) = self.redact_on_arrival(pdu, notes).await?;
        match way {
            Way::Live { relay } => {
                let follows = given.followed.contains(pdu.event_id());
                self.take_live(pdu, (before, after), notes, (relay, follows)).await?;
            }
            Way::Past(position, number) => {
                let states = States { before, after, current: after };
                self.mind_gaps(&pdu, Some(position)).await?;
                self.filled.push((position, number, pdu.event_id().to_owned()));
                let redaction = pdu.redacts().is_some().then(|| pdu.clone());
                self.hide(pdu, Status::Backfilled, Some(states), notes);
                if let Some(redaction) = redaction {
                    self.apply_redaction(&redaction, before).await?;
                    self.forget_text_of(&redaction);
                }
            }
        }
        Ok(Outcome::Accepted)
    }

    /// What the rules say of an event, and the state before it if that is known.
    pub(super) async fn verdict(
        &mut self,
        event: &Signed,
        given: &Given,
    ) -> Result<(Verdict, Option<StateId>), RoomError> {
        let (before, current) = match self.state_before(event.pdu(), given).await? {
            Some((before, true)) => {
                let current = self.row.state;
                let believed = self.believed(before, event.pdu()).await?;
                let current =
                    if current == before { believed } else { self.believed(current, event.pdu()).await? };
                (Some(believed), current)
            }
            // There is a hole before it, so that what this server takes for the present may be old: whoever has
            // come in there has come in. But a ban holds, as it does where states are resolved.
            Some((before, false)) => (Some(before), self.resolve_both(self.row.state, before).await?),
            None => (None, self.row.state),
        };
        let view = self.view(event.pdu(), (before, current)).await?;
        Ok((judge::judge(event, self.rules, &view), before))
    }

    async fn take_live(
        &mut self,
        pdu: Pdu,
        (before, after): (StateId, StateId),
        notes: EventNotes,
        (relay, is_followed): (bool, bool),
    ) -> Result<(), RoomError> {
        let follows = self.mind_gaps(&pdu, None).await? || is_followed;
        let redaction = pdu.redacts().is_some().then(|| pdu.clone());
        let mut event = StoredEvent {
            pdu,
            position: Position::ZERO,
            status: Status::Timeline,
            version: self.row.version.clone(),
            states: Some(States { before, after, current: after }),
            notes,
        };
        // The resolution may ask for the event itself.
        self.fresh.insert(event.pdu.event_id().to_owned(), event.clone());
        let current = self.follow_on(&event.pdu, after, follows).await?;
        event.states = Some(States { before, after, current });
        self.show(event, relay).await?;
        match redaction {
            Some(redaction) => self.apply_redaction(&redaction, before).await,
            None => Ok(()),
        }
    }

    /// Has the room's heads be those with an accepted event, unless something `follows` it already. The current state then.
    pub(super) async fn follow_on(
        &mut self,
        pdu: &Pdu,
        after: StateId,
        follows: bool,
    ) -> Result<StateId, RoomError> {
        let unaccepted = self.unaccepted_before(pdu).await?;
        let old: Vec<OwnedEventId> = self.row.heads.iter().map(|head| head.id.clone()).collect();
        let mut heads = extremities::after(&old, pdu, |id| unaccepted.get(id).cloned());
        if follows {
            heads.retain(|head| head != pdu.event_id());
        }
        let mut states = BTreeSet::new();
        for head in &heads {
            match head == pdu.event_id() {
                true => drop(states.insert(after)),
                false => {
                    let stored = self.known(head).await?.and_then(|head| head.states);
                    let stored = stored.ok_or_else(|| corrupt(format!("the head {head} has no state")))?;
                    states.insert(stored.after);
                }
            }
        }
        self.row.heads.retain(|head| heads.contains(&head.id));
        if heads.iter().any(|head| head == pdu.event_id()) {
            self.row.heads.push(HeadRow::from(Head::of(pdu, self.rules)));
        }
        let current = self.resolve(states.into_iter().collect()).await?;
        self.amended(current).await
    }

    /// Keeps an event that is not shown, or not in the log.
    fn hide(&mut self, pdu: Pdu, status: Status, states: Option<States>, notes: EventNotes) {
        let event = StoredEvent {
            pdu,
            position: Position::ZERO,
            status,
            version: self.row.version.clone(),
            states,
            notes,
        };
        self.fresh.insert(event.pdu.event_id().to_owned(), event.clone());
        self.hidden.push(event);
    }

    /// An event of this turn, or a stored one.
    pub(in crate::room) async fn known(&self, id: &EventId) -> Result<Option<StoredEvent>, RoomError> {
        if let Some(event) = self.fresh.get(id) {
            return Ok(Some(event.clone()));
        }
        Ok(self.rooms.0.history.event(id).await?.map(|event| (*event).clone()))
    }

    /// The state before an event, if the states after all that it follows are known.
    /// And whether they are all this server's own.
    async fn state_before(&mut self, pdu: &Pdu, given: &Given) -> Result<Option<(StateId, bool)>, RoomError> {
        if let Some(before) = given.before {
            return Ok(Some((before, true)));
        }
        if let Some(before) = given.claimed.before.get(pdu.event_id()) {
            return Ok(Some((*before, false)));
        }
        let mut states = BTreeSet::new();
        let mut is_ours = true;
        for id in pdu.prev_events() {
            let stored = self.known(id).await?.filter(|stored| stored.pdu.room_id() == self.room_id);
            let after = stored.and_then(|stored| stored.sound_states()).map(|states| states.after);
            // Once the room is whole, a state without most of its members is no state to judge by for good.
            let entry = given.entry.as_ref().filter(|(entry, _)| entry == id && self.row.partial);
            let after = after.or(entry.map(|(_, after)| *after));
            is_ours &= after.is_some();
            match after.or_else(|| given.claimed.after.get(id).copied()) {
                Some(after) => drop(states.insert(after)),
                None => return Ok(None),
            }
        }
        let before = self.resolve(states.into_iter().collect()).await?;
        match is_ours {
            true => Ok(Some((self.amended(before).await?, true))),
            // What another server gives is whole.
            false => Ok(Some((before, false))),
        }
    }

    async fn view(
        &self,
        pdu: &Pdu,
        (before, current): (Option<StateId>, StateId),
    ) -> Result<View, RoomError> {
        // For an event so malformed that nothing can be selected, the rules look at nothing.
        let keys = auth::state_keys(pdu, &self.rules.authorization).unwrap_or_default();
        let keys: Vec<StateKey> = keys.into_iter().map(StateKey::from).collect();
        let implied = create_of_room(&self.room_id)
            .filter(|_| self.rules.authorization.room_create_event_id_as_room_id);
        let mut events = HashMap::new();
        for id in pdu.auth_events().iter().chain(&implied) {
            if let Some(event) = self.known(id).await? {
                events.insert(id.clone(), event.pdu);
            }
        }
        let before = match before {
            Some(state) => Some(self.places_in(state, &keys).await?),
            None => None,
        };
        Ok(View { events, before, current: self.places_in(current, &keys).await? })
    }

    async fn resolve_both(&mut self, one: StateId, other: StateId) -> Result<StateId, RoomError> {
        let states = BTreeSet::from([one, other]);
        self.resolve(states.into_iter().collect()).await
    }

    /// One state out of several.
    pub(super) async fn resolve(&mut self, states: Vec<StateId>) -> Result<StateId, RoomError> {
        if let [state] = states[..] {
            return Ok(state);
        }
        if states.is_empty() {
            return Ok(StateId::EMPTY);
        }
        let fresh = Fresh { nodes: &self.nodes, events: &self.fresh };
        let merged = self.rooms.0.history.merge(self.rules, &states, fresh).await?;
        Ok(self.note_applied(merged))
    }

    /// The events before `pdu`, and before those, that are in the graph and not accepted.
    async fn unaccepted_before(&self, pdu: &Pdu) -> Result<HashMap<OwnedEventId, Pdu>, RoomError> {
        let mut unaccepted = HashMap::new();
        let mut queue: Vec<OwnedEventId> = pdu.prev_events().to_vec();
        while let Some(id) = queue.pop() {
            if unaccepted.len() >= EXTREMITY_WALK_MAX || unaccepted.contains_key(&id) {
                continue;
            }
            if let Some(event) = self.known(&id).await?
                && matches!(event.status, Status::SoftFailed | Status::Rejected)
            {
                queue.extend(event.pdu.prev_events().iter().cloned());
                unaccepted.insert(id, event.pdu);
            }
        }
        Ok(unaccepted)
    }
}

/// What became of a stored event, if that cannot change any more.
fn settled(event: &StoredEvent) -> Option<Outcome> {
    match event.status {
        Status::Timeline | Status::Backfilled | Status::SoftFailed => Some(Outcome::Known),
        Status::Rejected if event.states.is_some() => {
            Some(Outcome::Rejected(event.notes.reason.clone().unwrap_or_default()))
        }
        Status::Outlier | Status::Rejected => None,
    }
}

pub(super) fn corrupt(what: String) -> RoomError {
    RoomError::Store(StoreError::Corrupt(what))
}
