//! One change of one room: what is built, checked and finally written in one commit.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    RoomError, Rooms,
    guard::RoomGuard,
    ingest::Amendments,
    relation::{Related, RelationKey},
    setback::Setback,
    stripped,
};
use crate::{
    dag::{
        Draft, Node, NodeId, Pdu, StateId, StateKey, StateValue, auth,
        build::{self, Head, draft_state_keys},
        power::Power,
        tree::{self, Change, NewNode, entry_of},
    },
    history::{EventNotes, RoomRow, States, Status, StoredEvent, sticky_until_ms, tables::StrippedRow},
    log::{Audience, Commit},
    types::{Lane, Membership, Position},
};

/// An event that somebody wants to send.
pub(super) struct NewEvent {
    pub(super) sender: OwnedUserId,
    pub(super) event_type: TimelineEventType,
    pub(super) state_key: Option<String>,
    pub(super) content: Box<RawValue>,
    pub(super) redacts: Option<OwnedEventId>,
    /// The sending device and its transaction id.
    pub(super) txn: Option<(String, String)>,
}

impl NewEvent {
    /// An event that is not of the state.
    pub(super) fn message(sender: &UserId, event_type: TimelineEventType, content: Box<RawValue>) -> Self {
        let sender = sender.to_owned();
        Self { sender, event_type, state_key: None, content, redacts: None, txn: None }
    }

    /// A state event.
    pub(super) fn state(
        sender: &UserId,
        event_type: &str,
        state_key: &str,
        content: &impl Serialize,
    ) -> Result<Self, RoomError> {
        let content = serde_json::value::to_raw_value(content)
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        Ok(Self {
            state_key: Some(String::from(state_key)),
            ..Self::message(sender, event_type.into(), content)
        })
    }
}

/// An event of this turn, with what is written beside it.
pub(super) struct Written {
    pub(super) event: StoredEvent,
    pub(super) nodes: Vec<NewNode>,
    /// Where the room's current state is another one with the event.
    pub(super) changes: Vec<Change>,
    /// Servers that come into the room or have left it.
    pub(super) servers: Vec<(OwnedServerName, bool)>,
    pub(super) stripped: Option<StrippedRow>,
    pub(super) related: Option<Related>,
    /// Whether other servers get the event from us.
    pub(super) egress: bool,
}

impl Written {
    /// Whether the current state moves otherwise than by the event itself.
    pub(super) fn moves_elsewhere(&self) -> bool {
        let id = self.event.pdu.event_id();
        self.changes.iter().any(|change| change.after.as_ref().is_none_or(|value| value.event_id != id))
    }
}

/// A move of a room's state that is not by an event.
pub(super) struct Moved {
    pub(super) changes: Vec<Change>,
    /// Servers that come into the room or have left it.
    pub(super) servers: Vec<(OwnedServerName, bool)>,
}

/// Rows that a verb adds of its own.
pub(super) type Extra = Box<dyn FnOnce(&mut Commit) + Send + Sync>;

/// A room with its guard, and what is to happen to it.
pub(super) struct Turn {
    pub(super) rooms: Rooms,
    pub(super) room_id: OwnedRoomId,
    /// The room as it will be.
    pub(super) row: RoomRow,
    pub(super) rules: &'static RoomVersionRules,
    /// The room as it is; `None` for one that is being founded.
    pub(super) base: Option<Arc<RoomRow>>,
    /// Absent only for a room that nobody can know of yet.
    pub(super) guard: Option<RoomGuard>,
    pub(super) written: Vec<Written>,
    /// How the state moves after all events.
    pub(super) moved: Option<Moved>,
    /// Events that are kept and not shown.
    pub(super) hidden: Vec<StoredEvent>,
    /// Where back-filled events belong; see [`crate::history::Boundary`].
    pub(super) filled: Vec<(Position, u64, OwnedEventId)>,
    /// What goes from the index of relations, if it is there.
    pub(super) unrelated: BTreeSet<RelationKey>,
    /// Events whose rows are replaced.
    pub(super) rewritten: Vec<StoredEvent>,
    pub(super) extra: Vec<Extra>,
    /// Nodes that were made and belong to no event of [`Self::written`].
    pub(super) new_nodes: Vec<NewNode>,
    pub(super) nodes: HashMap<NodeId, Arc<Node>>,
    /// The events of this turn.
    pub(super) fresh: HashMap<OwnedEventId, StoredEvent>,
    /// The current state that readers of the room have been told of; that of [`Self::row`] may have been
    /// amended, which is told with the next event.
    pub(super) shown: StateId,
    /// Users of ours of whose devices the other servers are to be told besides those who come in.
    pub(super) introduced: BTreeSet<OwnedUserId>,
    /// How many positions this turn takes after those of its events and its move.
    pub(super) after: u64,
    /// Late parts of the state, once they were looked for.
    pub(super) amendments: Option<Amendments>,
    /// What was taken away that had stood.
    pub(super) setbacks: Vec<Setback>,
    /// Servers that this turn lets in or out.
    inside: HashMap<OwnedServerName, bool>,
}

/// A few events of a state, by their place.
#[derive(Default)]
pub(super) struct Places(Vec<(StateKey, Pdu)>);

impl Places {
    pub(super) fn get(&self, event_type: &StateEventType, state_key: &str) -> Option<Pdu> {
        let found =
            self.0.iter().find(|(place, _)| place.state_key == state_key && place.event_type == *event_type);
        found.map(|(_, pdu)| pdu.clone())
    }
}

impl Turn {
    /// Waits for `room` and takes it.
    pub(super) async fn begin(rooms: &Rooms, room: &RoomId) -> Result<Self, RoomError> {
        let guard = rooms.0.slots.lock(room).await;
        Self::hold(rooms, room, guard).await
    }

    async fn hold(rooms: &Rooms, room: &RoomId, guard: RoomGuard) -> Result<Self, RoomError> {
        let base = match &guard.ahead.row {
            Some(row) => Some(row.clone()),
            None => rooms.0.history.room(room).await?,
        };
        let base = base.ok_or(RoomError::NotFound("This server does not know the room"))?;
        let row = RoomRow { serial: base.serial + 1, ..(*base).clone() };
        let mut turn =
            Self { base: Some(base), guard: Some(guard), ..Self::empty(rooms, room.to_owned(), row) };
        turn.row.state = turn.amended(turn.row.state).await?;
        Ok(turn)
    }

    /// As [`Self::begin`], once every event of the room is stored: for whoever looks at more than its heads.
    pub(super) async fn begin_at_rest(rooms: &Rooms, room: &RoomId) -> Result<Self, RoomError> {
        let guard = rooms.0.slots.lock(room).await;
        guard.rest().await;
        Self::hold(rooms, room, guard).await
    }

    /// Waits for a room that this server does not know yet, and takes it.
    pub(super) async fn begin_new(rooms: &Rooms, room: &RoomId, row: RoomRow) -> Result<Self, RoomError> {
        let guard = rooms.0.slots.lock(room).await;
        rooms.check_open(room).await?;
        match guard.ahead.row.is_none() && rooms.0.history.room(room).await?.is_none() {
            true => Ok(Self { guard: Some(guard), ..Self::empty(rooms, room.to_owned(), row) }),
            false => Err(RoomError::Conflict),
        }
    }

    /// A turn in which nothing has happened, of a room that is not there yet.
    pub(super) fn empty(rooms: &Rooms, room_id: OwnedRoomId, row: RoomRow) -> Self {
        Self {
            rooms: rooms.clone(),
            room_id,
            rules: row.rules(),
            shown: row.state,
            row,
            base: None,
            guard: None,
            written: Vec::new(),
            moved: None,
            hidden: Vec::new(),
            filled: Vec::new(),
            unrelated: BTreeSet::new(),
            rewritten: Vec::new(),
            extra: Vec::new(),
            new_nodes: Vec::new(),
            introduced: BTreeSet::new(),
            after: 0,
            nodes: HashMap::new(),
            fresh: HashMap::new(),
            amendments: None,
            setbacks: Vec::new(),
            inside: HashMap::new(),
        }
    }

    /// As [`Self::begin`], for somebody who can only be in a room that this server knows.
    pub(super) async fn begin_as_member(rooms: &Rooms, room: &RoomId) -> Result<Self, RoomError> {
        Self::begin(rooms, room).await.map_err(|error| match error {
            RoomError::NotFound(_) => RoomError::forbidden("You are not in the room"),
            error => error,
        })
    }

    /// Founds a room with its create event. `room` is its id where the create event does not decide it.
    pub(super) async fn found(
        rooms: &Rooms,
        version: ruma::RoomVersionId,
        room: Option<OwnedRoomId>,
        create: NewEvent,
    ) -> Result<Self, RoomError> {
        let rules = crate::dag::versions::rules(&version)
            .ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let mut draft = draft(rooms, room, create);
        // Two rooms that are alike and of one moment would be one room where the id is a hash.
        let moment = u64::from(draft.origin_server_ts.0);
        let last = rooms.0.last_founded.fetch_max(moment, Ordering::AcqRel);
        if last >= moment {
            let moment = rooms.0.last_founded.fetch_add(1, Ordering::AcqRel).saturating_add(1);
            draft.origin_server_ts.0 = UInt::try_from(moment).unwrap_or(UInt::MAX);
        }
        let pdu = build::build(draft, &[], |_, _| None, rules, rooms.key())?;
        auth::check_selection(&pdu, &rules.authorization, |_| None)
            .map_err(|denied| RoomError::Invalid(denied.to_string()))?;
        let row = RoomRow { serial: 1, ..RoomRow::new(version, pdu.event_id().to_owned()) };
        let mut turn = Self::empty(rooms, pdu.room_id().to_owned(), row);
        turn.admit(pdu, None).await?;
        Ok(turn)
    }

    /// Adds an event on top of the room as it is by now, if the rules allow it.
    pub(super) async fn add(&mut self, mut event: NewEvent) -> Result<OwnedEventId, RoomError> {
        let txn = event.txn.take();
        let pdu = self.build(event).await?;
        let id = pdu.event_id().to_owned();
        self.admit(pdu, txn).await?;
        Ok(id)
    }

    /// An event on top of the room as it is by now, if the rules allow it. It is not in the room yet.
    pub(super) async fn build(&self, event: NewEvent) -> Result<Pdu, RoomError> {
        let (pdu, policy) = self.draft(event).await?;
        // The policy server is not troubled with what the room does not allow anyway.
        self.recommended(pdu, policy).await
    }

    /// As [`Self::build`], but without the word of the room's policy server, whose event comes with it.
    pub(super) async fn draft(&self, event: NewEvent) -> Result<(Pdu, Option<Pdu>), RoomError> {
        self.check_guest(&event).await?;
        let draft = draft(&self.rooms, Some(self.room_id.clone()), event);
        let mut keys: Vec<StateKey> =
            draft_state_keys(&draft, self.rules)?.into_iter().map(StateKey::from).collect();
        let policy = Self::policy_place();
        keys.push(policy.clone());
        let places = self.places(&keys).await?;
        let state = |event_type: &StateEventType, key: &str| places.get(event_type, key);
        let pdu = build::build(draft, &self.row.build_heads(), state, self.rules, self.rooms.key())?;
        // Its auth events were taken from this very state, so that checking against it says it all.
        auth::check_against(&pdu, &self.rules.authorization, state)?;
        Ok((pdu, places.get(&policy.event_type, "")))
    }

    /// Adds a state event unless its sender has said the same there last.
    pub(super) async fn add_state(&mut self, event: NewEvent) -> Result<OwnedEventId, RoomError> {
        let state_key = event.state_key.clone().unwrap_or_default();
        let place = StateKey::new(event.event_type.to_string().into(), &state_key);
        let places = self.places(std::slice::from_ref(&place)).await?;
        if let Some(present) = places.get(&place.event_type, &place.state_key)
            && present.sender() == event.sender
            && same_json(present.content(), &event.content)
        {
            return Ok(present.event_id().to_owned());
        }
        self.add(event).await
    }

    /// The events at some places of the state as it is by now.
    pub(super) async fn places(&self, keys: &[StateKey]) -> Result<Places, RoomError> {
        self.places_in(self.row.state, keys).await
    }

    /// The events at some places of a state.
    pub(super) async fn places_in(&self, state: StateId, keys: &[StateKey]) -> Result<Places, RoomError> {
        let history = &self.rooms.0.history;
        let values = history.ask(&self.nodes, |nodes| tree::get_many(nodes, state, keys)).await?;
        let mut places = Places::default();
        let (mut absent, mut absent_keys) = (Vec::new(), Vec::new());
        for (key, value) in keys.iter().zip(values) {
            let Some(StateValue { event_id, .. }) = value else { continue };
            match self.fresh.get(&event_id) {
                Some(event) => places.0.push((key.clone(), event.pdu.clone())),
                None => {
                    absent.push(event_id);
                    absent_keys.push(key.clone());
                }
            }
        }
        let found = history.events(&absent).await?;
        for (key, event) in absent_keys.into_iter().zip(found) {
            let event = event.ok_or_else(|| {
                let what = format!("an event of the state of {} is missing: {key:?}", self.room_id);
                crate::store::StoreError::Corrupt(what)
            })?;
            places.0.push((key, event.pdu.clone()));
        }
        Ok(places)
    }

    /// The event at one place of the state as it is by now.
    pub(super) async fn place(&self, event_type: &str, state_key: &str) -> Result<Option<Pdu>, RoomError> {
        let key = StateKey::new(event_type.into(), state_key);
        let places = self.places(std::slice::from_ref(&key)).await?;
        Ok(places.get(&key.event_type, state_key))
    }

    /// What `user` is to the room as it is by now.
    pub(super) async fn membership(&self, user: &UserId) -> Result<Option<Membership>, RoomError> {
        let key = StateKey::new(StateEventType::RoomMember, user.as_str());
        let (history, state) = (&self.rooms.0.history, self.row.state);
        let value = history.ask(&self.nodes, |nodes| tree::get(nodes, state, &key)).await?;
        Ok(value.and_then(|value| value.membership))
    }

    /// Who has how much power in the room as it is by now.
    pub(super) async fn power(&self) -> Result<Power<'static>, RoomError> {
        self.power_in(self.row.state).await
    }

    /// The power of everybody in a state.
    pub(super) async fn power_in(&self, state: StateId) -> Result<Power<'static>, RoomError> {
        let keys = [StateEventType::RoomCreate, StateEventType::RoomPowerLevels]
            .map(|event_type| StateKey::new(event_type, ""));
        let places = self.places_in(state, &keys).await?;
        Ok(Power::of(|event_type, key| places.get(event_type, key), &self.rules.authorization))
    }

    /// Takes an event of ours that was found good into the room.
    async fn admit(&mut self, pdu: Pdu, txn: Option<(String, String)>) -> Result<(), RoomError> {
        let before = self.row.state;
        let after = self.with_event(before, &pdu).await?;
        self.row.heads.retain(|head| !pdu.prev_events().contains(&head.id));
        self.row.heads.push(Head::of(&pdu, self.rules).into());
        let event = StoredEvent {
            pdu,
            position: Position::ZERO,
            status: Status::Timeline,
            version: self.row.version.clone(),
            states: Some(States { before, after, current: after }),
            notes: EventNotes { txn, ..EventNotes::default() },
        };
        self.show(event, true).await
    }

    /// A state with `pdu` in its place, if it is a state event.
    pub(super) async fn with_event(&mut self, state: StateId, pdu: &Pdu) -> Result<StateId, RoomError> {
        let Some((key, value)) = entry_of(pdu) else { return Ok(state) };
        let edit = [(key, Some(value))];
        let history = &self.rooms.0.history;
        let applied = history.ask(&self.nodes, |source| tree::apply(source, state, edit.clone())).await?;
        Ok(self.note_applied(applied))
    }

    /// Keeps the nodes of a new state.
    pub(super) fn note_applied(&mut self, applied: tree::Applied) -> StateId {
        for node in &applied.nodes {
            self.nodes.insert(node.id, node.node.clone());
        }
        self.new_nodes.extend(applied.nodes);
        applied.state
    }

    /// Puts an event at the end of the room's timeline, and all that follows from the room's current
    /// state becoming the one that the event brings.
    pub(super) async fn show(&mut self, event: StoredEvent, egress: bool) -> Result<(), RoomError> {
        let current = event.states.map_or(self.row.state, |states| states.current);
        let from = std::mem::replace(&mut self.shown, current);
        let history = &self.rooms.0.history;
        let changes = history.ask(&self.nodes, |nodes| tree::diff(nodes, from, current)).await?;
        self.row.state = current;
        changes.iter().for_each(|change| self.count(change));
        let servers = self.movers(&changes).await?;
        self.fresh.insert(event.pdu.event_id().to_owned(), event.clone());
        self.mind_setbacks(&changes, Some(event.pdu.event_id())).await?;
        let stripped = stripped::of(self, &event.pdu).await?;
        let related = self.relate(&event.pdu).await?;
        let until_ms = sticky_until_ms(&event.pdu, self.rooms.0.ports.clock.now_ms());
        self.row.sticky_until_ms = self.row.sticky_until_ms.max(until_ms.unwrap_or_default());
        let nodes = std::mem::take(&mut self.new_nodes);
        let before = event.states.map(|states| states.before);
        let pdu = event.pdu.clone();
        self.written.push(Written { event, nodes, changes, servers, stripped, related, egress });
        match before {
            Some(before) => self.sweep(&pdu, before).await,
            None => Ok(()),
        }
    }

    /// Makes `state` the room's current one, after everything else in this turn.
    pub(super) async fn move_state(&mut self, state: StateId) -> Result<(), RoomError> {
        let from = std::mem::replace(&mut self.shown, state);
        self.row.state = state;
        let history = &self.rooms.0.history;
        let changes = history.ask(&self.nodes, |nodes| tree::diff(nodes, from, state)).await?;
        if !changes.is_empty() {
            changes.iter().for_each(|change| self.count(change));
            let servers = self.movers(&changes).await?;
            self.mind_setbacks(&changes, None).await?;
            self.moved = Some(Moved { changes, servers });
        }
        Ok(())
    }

    /// The servers whose first user comes in by `changes`, or whose last user goes.
    async fn movers(&mut self, changes: &[Change]) -> Result<Vec<(OwnedServerName, bool)>, RoomError> {
        let (mut arrived, mut left) = (BTreeSet::new(), BTreeSet::new());
        let is_join = |value: &Option<StateValue>| {
            value.as_ref().is_some_and(|value| value.membership == Some(Membership::Join))
        };
        for change in changes.iter().filter(|change| change.key.event_type == StateEventType::RoomMember) {
            let Ok(user) = <&UserId>::try_from(change.key.state_key.as_str()) else { continue };
            if self.rooms.0.history.is_local(user) {
                continue;
            }
            match (is_join(&change.before), is_join(&change.after)) {
                (false, true) => drop(arrived.insert(user.server_name().to_owned())),
                (true, false) => drop(left.insert(user.server_name().to_owned())),
                _ => {}
            }
        }
        let mut movers = Vec::new();
        if self.row.partial {
            // Others of theirs may be there.
            left.clear();
        }
        left.retain(|server| !arrived.contains(server));
        for server in arrived {
            if !self.is_inside(&server).await? {
                movers.push((server, true));
            }
        }
        if !left.is_empty() {
            let (joined, _) = self.joined().await?;
            left.retain(|server| !joined.contains(server));
            movers.extend(left.into_iter().map(|server| (server, false)));
        }
        self.inside.extend(movers.iter().cloned());
        Ok(movers)
    }

    /// The servers with joined users in the state as it is by now, and those of our users who are joined.
    pub(super) async fn joined(
        &self,
    ) -> Result<(BTreeSet<OwnedServerName>, BTreeSet<OwnedUserId>), RoomError> {
        let (history, state) = (&self.rooms.0.history, self.row.state);
        let kind = StateEventType::RoomMember;
        let entries = history.ask(&self.nodes, |nodes| tree::range(nodes, state, &kind)).await?;
        let joined = entries.iter().filter(|entry| entry.value.membership == Some(Membership::Join));
        let users = joined.filter_map(|entry| <&UserId>::try_from(entry.key.state_key.as_str()).ok());
        let (mut servers, mut ours) = (BTreeSet::new(), BTreeSet::new());
        for user in users {
            if !servers.contains(user.server_name()) {
                servers.insert(user.server_name().to_owned());
            }
            if history.is_local(user) {
                ours.insert(user.to_owned());
            }
        }
        Ok((servers, ours))
    }

    /// Has servers that are in the room get what is written, although it is not known who of them is there.
    pub(super) async fn let_in(&mut self, servers: &BTreeSet<OwnedServerName>) -> Result<(), RoomError> {
        for server in servers {
            if !self.is_inside(server).await?
                && let Some(written) = self.written.last_mut()
            {
                written.servers.push((server.clone(), true));
                self.inside.insert(server.clone(), true);
            }
        }
        Ok(())
    }

    pub(super) async fn is_inside(&self, server: &OwnedServerName) -> Result<bool, RoomError> {
        if let Some(inside) = self.inside.get(server) {
            return Ok(*inside);
        }
        let audience = Audience::Server(server.clone());
        let lanes = self.rooms.0.history.log().subscriptions(&audience).await?;
        Ok(lanes.is_open(&Lane::Egress(self.room_id.clone())))
    }

    /// Keeps the room's counts of members in step with its state.
    fn count(&mut self, change: &Change) {
        if change.key.event_type != StateEventType::RoomMember {
            return;
        }
        let Ok(user) = <&UserId>::try_from(change.key.state_key.as_str()) else { return };
        let is_remote = !self.rooms.0.history.is_local(user);
        let row = &mut self.row;
        for (value, arrives) in [(&change.before, false), (&change.after, true)] {
            let step = |count: &mut u64| match arrives {
                true => *count += 1,
                false => *count = count.saturating_sub(1),
            };
            match value.as_ref().and_then(|value| value.membership) {
                Some(Membership::Join) => {
                    step(&mut row.joined);
                    if is_remote {
                        step(&mut row.remote);
                    }
                }
                Some(Membership::Invite) => step(&mut row.invited),
                _ => {}
            }
        }
    }
}

pub(super) fn draft(rooms: &Rooms, room_id: Option<OwnedRoomId>, event: NewEvent) -> Draft {
    Draft {
        room_id,
        sender: event.sender,
        event_type: event.event_type,
        state_key: event.state_key,
        content: event.content,
        redacts: event.redacts,
        origin_server_ts: rooms.moment(),
        sticky_ms: rooms.1.sticky_ms,
    }
}

/// Whether two texts say the same.
fn same_json(a: &RawValue, b: &RawValue) -> bool {
    let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    a.get() == b.get() || read(a).zip(read(b)).is_some_and(|(a, b)| a == b)
}
