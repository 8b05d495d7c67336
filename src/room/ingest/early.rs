//! What comes into a room before all its members are known.
//!
//! Whoever is not known there is believed to be what an event itself says of them by the events that it names, if their server is
//! said to be in the room. By that it is judged, and shown if it is good; [`super::replay`] judges it again once the members are
//! known, and so what is found bad. What stands beside our join in the graph waits until then, unless the state before it is known.

use ruma::{OwnedEventId, RoomId, UserId, events::StateEventType};

use super::{Batch, Given, take::Way};
use crate::{
    dag::{
        Pdu, Signed, StateId, StateKey, StateValue, Verdict, auth,
        tree::{self, entry_of},
    },
    history::{
        Status,
        tables::{Part, UNJUDGED, UnjudgedRow},
    },
    room::{RoomError, Rooms, turn::Turn, until_settled},
    types::Membership,
};

impl Batch<'_> {
    /// Takes those out of `events` that are to wait: they follow what waits, or what our join followed too.
    pub(super) async fn put_aside(&mut self, events: &mut Vec<Signed>) -> Result<Vec<Pdu>, RoomError> {
        let db = self.rooms.history().log().db();
        let join = self.rooms.entry_into(self.room).await?.map(|(_, join)| join);
        let mut beside: &[OwnedEventId] = join.as_ref().map_or(&[], |join| join.pdu.prev_events());
        if let [before] = beside {
            self.entry =
                join.as_ref().and_then(|join| join.states).map(|states| (before.clone(), states.before));
            beside = &[];
        }
        let key = |id: &OwnedEventId| (self.room.to_owned(), Part::News.number(), id.clone());
        events.sort_by_key(|event| event.pdu().depth());
        let named = events.iter().flat_map(|event| event.pdu().prev_events());
        let named: Vec<OwnedEventId> = named.cloned().collect();
        let keys: Vec<_> = named.iter().map(key).collect();
        let kept = db.rows(&UNJUDGED, &keys).await?;
        let stored = self.rooms.history().events(&named).await?;
        let mut waiting: Vec<OwnedEventId> = Vec::new();
        for ((id, kept), stored) in named.into_iter().zip(kept).zip(stored) {
            let is_placed = stored.is_some_and(|event| event.states.is_some());
            let is_here = events.iter().any(|event| event.pdu().event_id() == id);
            if !is_placed && !is_here && (kept.is_some() || beside.contains(&id)) {
                waiting.push(id);
            }
        }
        let mut aside = Vec::new();
        events.retain(|event| {
            let pdu = event.pdu();
            let waits = pdu.prev_events().iter().any(|id| waiting.contains(id));
            if waits {
                waiting.push(pdu.event_id().to_owned());
                aside.push(pdu.clone());
            }
            !waits
        });
        Ok(aside)
    }
}

impl Rooms {
    /// Takes an event by which a user of ours is kicked or banned, although what lies before it cannot be had: those in the
    /// room may answer no question about it after that.
    pub(super) async fn take_early(&self, room: &RoomId, pdu: &Pdu) -> Result<bool, RoomError> {
        match put_out(pdu).filter(|user| self.0.history.is_local(user)) {
            Some(user) => until_settled!(self.try_take_early(room, (pdu, user))),
            None => Ok(false),
        }
    }

    async fn try_take_early(&self, room: &RoomId, (pdu, user): (&Pdu, &UserId)) -> Result<bool, RoomError> {
        let mut turn = Turn::begin_at_rest(self, room).await?;
        // Of whoever is not in the room nothing is urgent.
        if !turn.row.partial || turn.membership(user).await? != Some(Membership::Join) {
            return Ok(false);
        }
        let event = Signed::ours(pdu.clone());
        let given = Given { before: Some(turn.row.state), ..Given::default() };
        let verdict = turn.verdict(&event, &given).await?;
        let is_allowed =
            matches!(verdict, (Verdict::Accepted(_), Some(_))) && !turn.is_discouraged(pdu).await?;
        if is_allowed {
            turn.take(&event, &given, Way::Live { relay: false }).await?;
            turn.close().await?;
        }
        Ok(is_allowed)
    }
}

/// Who is kicked or banned by an event, if somebody is.
fn put_out(pdu: &Pdu) -> Option<&UserId> {
    let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok())?;
    let is_put_out =
        user != pdu.sender() && matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban));
    is_put_out.then_some(user)
}

impl Turn {
    /// `state`, in a room whose members are not all known with those whom `pdu` depends on as the events that it names have them,
    /// where nothing is known of them, or of ours only how they were when the last one left. Nobody's server gets to see the
    /// room by this.
    pub(super) async fn believed(&mut self, state: StateId, pdu: &Pdu) -> Result<StateId, RoomError> {
        if !self.row.partial {
            return Ok(state);
        }
        let keys = auth::state_keys(pdu, &self.rules.authorization).unwrap_or_default();
        let mut keys: Vec<StateKey> = keys.into_iter().map(StateKey::from).collect();
        keys.retain(|key| key.event_type == StateEventType::RoomMember);
        let history = self.rooms.0.history.clone();
        let present = history.ask(&self.nodes, |nodes| tree::get_many(nodes, state, &keys)).await?;
        let is_known = |key: &StateKey, value: StateValue| {
            let user = <&UserId>::try_from(key.state_key.as_str());
            value.membership == Some(Membership::Join) || !user.is_ok_and(|user| history.is_local(user))
        };
        let keys = keys.into_iter().zip(present);
        let absent = keys.filter(|(key, present)| !present.clone().is_some_and(|value| is_known(key, value)));
        let absent: Vec<StateKey> = absent.map(|(key, _)| key).collect();
        let mut edits: Vec<(StateKey, Option<StateValue>)> = Vec::new();
        for id in pdu.auth_events() {
            let Some(named) = self.known(id).await?.filter(|named| named.status != Status::Rejected) else {
                continue;
            };
            let Some((key, value)) = entry_of(&named.pdu).filter(|(key, _)| absent.contains(key)) else {
                continue;
            };
            if self.may_be(&key, &value).await? {
                edits.push((key, Some(value)));
            }
        }
        if edits.is_empty() {
            return Ok(state);
        }
        let applied = history.ask(&self.nodes, |nodes| tree::apply(nodes, state, edits.clone())).await?;
        Ok(self.note_applied(applied))
    }

    async fn may_be(&self, key: &StateKey, value: &StateValue) -> Result<bool, RoomError> {
        match <&UserId>::try_from(key.state_key.as_str()) {
            Ok(user) if value.membership == Some(Membership::Join) => {
                self.is_inside(&user.server_name().to_owned()).await
            }
            user => Ok(user.is_ok()),
        }
    }

    /// Has what was found bad be judged once more when the members of the room are known.
    pub(super) fn judge_later(&mut self, pdu: &Pdu, way: Way) {
        if !self.row.partial || !matches!(way, Way::Live { .. }) {
            return;
        }
        let key = (self.room_id.clone(), Part::News.number(), pdu.event_id().to_owned());
        let origin = pdu.sender().server_name().to_owned();
        let since_ms = self.rooms.0.ports.clock.now_ms();
        let row = UnjudgedRow { origin, text: pdu.json().to_owned(), since_ms, in_state: false };
        self.extra.push(Box::new(move |commit| commit.put(&UNJUDGED, &key, &row)));
    }
}
