//! The one way in: everything that an event from another server goes through.
//!
//! Owns: the steps between a received text and the room. [`check`] reads and verifies, [`batch`] finds out
//! what is lacking, [`fetch`] gets it (never with the room's lock held), [`outlier`] keeps what has no
//! place in the graph, [`take`] judges with everything at hand and puts the event into the room.
//! [`gaps`] knows what lies before what is here.
//! [`later`] keeps what could not be judged and tries it again, [`amend`] puts what was found good too late for
//! the states that it belongs into there, [`partial`] completes rooms that were joined without their members,
//! [`early`] judges what comes before these are known, and [`replay`] judges it again.
//! Invariants: nothing is stored as an event that has not passed `check`; a failure to fetch leaves no verdict; what
//! was rejected or soft-failed never becomes part of a state or a head.

mod amend;
mod backfill;
mod batch;
mod check;
mod claim;
mod early;
mod fetch;
mod gaps;
mod graft;
mod later;
mod merge;
mod outlier;
mod partial;
mod redaction;
mod replay;
mod take;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;

pub(super) use amend::Amendments;
pub use graft::Graft;

pub(super) use batch::Batch;

use self::{
    batch::Claimed,
    fetch::Fetch,
    take::{Outcome, Way},
};
use super::{RoomError, Rooms, turn::Turn, until_settled};
use crate::{
    dag::{Pdu, StateId},
    history::{RoomRow, tables::Part},
    limits::{JOIN_WAIT_MAX, TURN_EVENTS_MAX},
};

/// Why an event from outside is not in the room.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveFailure {
    /// The text is no event of its room.
    #[error("the event is malformed: {0}")]
    Malformed(String),
    /// It is not signed by those who must sign it.
    #[error("the signatures cannot be accepted: {0}")]
    Signatures(String),
    /// It was not looked at, because the keys for its signatures could not be had.
    #[error("the signatures cannot be checked: {0}")]
    Unverified(String),
    /// No user of this server is in the room.
    #[error("this server is not in the room")]
    NotInRoom,
    /// The room's access control list does not let the server take part.
    #[error("the room does not let the server take part")]
    Denied,
    /// The rules of the room forbid it.
    #[error("the event was rejected: {0}")]
    Rejected(String),
    /// It was not judged, because events that it refers to could not be had.
    #[error("events before this one are missing")]
    Missing,
    /// It waits for the members of the room, who are not all known yet.
    #[error("the room is not wholly known yet")]
    Waiting,
    /// The server's own trouble; nothing was said about the event.
    #[error("the event could not be stored: {0}")]
    Trouble(#[from] RoomError),
}

/// What each event of a batch came to.
pub(super) type Results = BTreeMap<OwnedEventId, Result<(), ReceiveFailure>>;

/// What is known beside the events of a batch. It holds for that batch only.
#[derive(Default)]
pub(super) struct Given {
    /// The state before each of them, whatever they follow on.
    before: Option<StateId>,
    /// States by the word of another server.
    claimed: Claimed,
    /// The one event that our join followed, and the state after it, in a room whose members are not all known.
    entry: Option<(OwnedEventId, StateId)>,
    /// The events that something in the room follows already.
    followed: HashSet<OwnedEventId>,
}

impl Rooms {
    /// Judges and stores events that came from `origin`, fetching what they lack within bounds. One
    /// result for each, by its id; what is so malformed that it has no id has no result. What was kept, to be judged once
    /// what it lacks can be had, counts as taken.
    ///
    /// # Errors
    /// When this server is in trouble that may pass: nothing is said about the events, and they are to come again.
    pub async fn receive(
        &self,
        origin: &ServerName,
        room: &RoomId,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<(OwnedEventId, Result<(), ReceiveFailure>)>, RoomError> {
        let mut results = Results::new();
        let way = Way::Live { relay: false };
        let received = self.try_receive((origin, room), pdus, way, &mut results).await;
        let kept = match received {
            Ok(unjudged) => {
                let kept = self.keep_unjudged((room, origin), (Part::News, false), &unjudged).await;
                kept.map(|is_all| if is_all { unjudged } else { Vec::new() })
            }
            Err(error) => Err(error),
        };
        match kept {
            // What waits is as good as taken, unless there is too much of it.
            Ok(kept) => {
                for pdu in kept {
                    let result = results.get_mut(pdu.event_id());
                    let waits = |result: &&mut _| {
                        matches!(result, Err(ReceiveFailure::Waiting | ReceiveFailure::Missing))
                    };
                    result.filter(waits).into_iter().for_each(|result| *result = Ok(()));
                }
            }
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => {
                tracing::warn!(room.id = %room, %error, "could not take events into {room}");
                let unsaid = || Err(ReceiveFailure::Missing);
                results.values_mut().filter(|result| result.is_err()).for_each(|result| *result = unsaid());
            }
        }
        Ok(results.into_iter().collect())
    }

    /// The ids of events of a room, as far as they have some.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn names(&self, room: &RoomId, pdus: &[Box<RawValue>]) -> Result<Vec<OwnedEventId>, RoomError> {
        Ok(match self.0.history.room(room).await? {
            Some(row) => check::ids_in(pdus, row.rules()).into_iter().collect(),
            None => check::ids_of(pdus).collect(),
        })
    }

    /// As [`Self::receive`], for one event that `origin` asks this server to bring into the room and to
    /// pass on to the others: a join, leave or knock. It must be accepted.
    ///
    /// # Errors
    /// Why it is not in the room.
    pub async fn receive_for(
        &self,
        origin: &ServerName,
        room: &RoomId,
        pdu: Box<RawValue>,
    ) -> Result<OwnedEventId, ReceiveFailure> {
        self.whole(room).await?;
        let mut results = Results::new();
        self.try_receive((origin, room), vec![pdu], Way::Live { relay: true }, &mut results).await?;
        let no_event = || ReceiveFailure::Malformed(String::from("it is no event of the room"));
        let (id, result) = results.into_iter().next().ok_or_else(no_event)?;
        result?;
        match self.0.history.event(&id).await.map_err(RoomError::from)? {
            Some(event) if event.is_shown() => Ok(id),
            Some(event) => Err(ReceiveFailure::Rejected(event.notes.reason.clone().unwrap_or_default())),
            None => Err(ReceiveFailure::Missing),
        }
    }

    /// Takes an event that was built here and has been shown to another server before it came into the
    /// room: meanwhile the room may have moved.
    pub(super) async fn take_ours(&self, room: &RoomId, event: crate::dag::Signed) -> Result<(), RoomError> {
        let row = self.here(room).await?;
        let id = event.pdu().event_id().to_owned();
        let mut batch = Batch::new(self, room, row);
        batch.extend([event]);
        let outcomes = self.settle(room, &batch, Way::Live { relay: true }).await?;
        match outcomes.into_iter().find(|(found, _)| *found == id) {
            Some((_, Outcome::Known | Outcome::Accepted)) => Ok(()),
            Some((_, Outcome::Rejected(reason))) => Err(RoomError::Forbidden(reason)),
            _ => Err(RoomError::forbidden("The room does not allow it any more")),
        }
    }

    /// The room, if users of ours are in it. Whoever is just joining it is waited for: the others in the room
    /// have been told, and what they send now comes once only.
    async fn row_inside(&self, room: &RoomId) -> Result<Option<Arc<RoomRow>>, RoomError> {
        let inside = async || {
            let row = self.0.history.room(room).await?;
            Ok::<_, RoomError>(row.filter(|row| row.joined > row.remote))
        };
        let row = inside().await?;
        if row.is_some() || !self.0.joins.is_taken(room) {
            return Ok(row);
        }
        drop(tokio::time::timeout(JOIN_WAIT_MAX, self.0.joins.lock(room)).await);
        inside().await
    }

    /// As [`Self::receive`]. Gives back what was not judged.
    async fn try_receive(
        &self,
        (origin, room): (&ServerName, &RoomId),
        pdus: Vec<Box<RawValue>>,
        way: Way,
        results: &mut Results,
    ) -> Result<Vec<Pdu>, RoomError> {
        let Some(row) = self.row_inside(room).await? else {
            let ids: Vec<OwnedEventId> = check::ids_of(&pdus).collect();
            results.extend(ids.into_iter().map(|id| (id, Err(ReceiveFailure::NotInRoom))));
            results.extend(self.receive_outside(room, pdus).await?);
            return Ok(Vec::new());
        };
        if !self.0.history.allows_server(room, origin).await? {
            let ids = check::ids_in(&pdus, row.rules());
            results.extend(ids.into_iter().map(|id| (id, Err(ReceiveFailure::Denied))));
            return Ok(Vec::new());
        }
        let checked = self.check(room, row.rules(), pdus).await?;
        results.extend(checked.known.into_iter().map(|id| (id, Ok(()))));
        results.extend(checked.failures.into_iter().map(|(id, failure)| (id, Err(failure))));
        let mut unjudged = checked.unverified;
        let mut batch = Batch::new(self, room, row);
        batch.floor = batch.row.entry_depth;
        let mut events = checked.events;
        if batch.row.partial {
            for pdu in batch.put_aside(&mut events).await? {
                results.insert(pdu.event_id().to_owned(), Err(ReceiveFailure::Waiting));
                unjudged.push(pdu);
            }
        }
        let mut given: BTreeMap<OwnedEventId, Pdu> = BTreeMap::new();
        for event in &events {
            let id = event.pdu().event_id().to_owned();
            results.insert(id.clone(), Err(ReceiveFailure::Missing));
            given.insert(id, event.pdu().clone());
        }
        self.look_again_for(room, &given).await?;
        batch.extend(events);
        if batch.look().await?.is_lacking() {
            // One fetch at a time for each room: what one brings is there for the next.
            let _fetching = self.0.fetches.lock(room).await;
            if batch.look().await?.is_lacking() {
                Fetch::new(&mut batch, origin).await?.complete().await?;
            }
        }
        if matches!(way, Way::Live { .. }) {
            self.seek_recommendations(room, &mut batch).await?;
        }
        for (id, outcome) in self.settle(room, &batch, way).await? {
            let Some(pdu) = given.remove(&id) else { continue };
            if matches!(outcome, Outcome::Missing) {
                if batch.row.partial && self.take_early(room, &pdu).await? {
                    results.insert(id, Ok(()));
                    continue;
                }
                unjudged.push(pdu);
            }
            let result = match outcome {
                Outcome::Missing if batch.row.partial => Err(ReceiveFailure::Waiting),
                // That is not the last word.
                Outcome::Rejected(_) if batch.row.partial => Ok(()),
                outcome => outcome.result(),
            };
            results.insert(id, result);
        }
        if matches!(way, Way::Live { .. }) {
            self.mind_heads(room).await?;
        }
        if batch.row.partial && !self.is_here(room).await? {
            // There are no members to wait for any more.
            self.complete_soon(room);
        }
        Ok(unjudged)
    }

    /// Judges everything of a batch, earlier events first, and writes what comes of it.
    pub(super) async fn settle(
        &self,
        room: &RoomId,
        batch: &Batch<'_>,
        way: Way,
    ) -> Result<Vec<(OwnedEventId, Outcome)>, RoomError> {
        let order = batch.in_order();
        let (claimed, entry) = (batch.claimed().clone(), batch.entry.clone());
        let given = Given { before: None, claimed, entry, followed: batch.followed().await? };
        let mut outcomes = Vec::with_capacity(order.len());
        while outcomes.len() < order.len() {
            let (rest, way) = (&order[outcomes.len()..], way.nth(outcomes.len()));
            outcomes.extend(until_settled!(self.settle_some(room, rest, (batch, &given), way))?);
        }
        Ok(outcomes)
    }

    /// As many as go well into one commit; at least one.
    async fn settle_some(
        &self,
        room: &RoomId,
        events: &[&crate::dag::Signed],
        (batch, given): (&Batch<'_>, &Given),
        way: Way,
    ) -> Result<Vec<(OwnedEventId, Outcome)>, RoomError> {
        let mut turn = Turn::begin_at_rest(self, room).await?;
        turn.adopt(batch.nodes());
        let mut outcomes = Vec::new();
        for (index, event) in events.iter().take(TURN_EVENTS_MAX).enumerate() {
            let outcome = turn.take(event, given, way.nth(index)).await?;
            outcomes.push((event.pdu().event_id().to_owned(), outcome));
            if turn.is_round() {
                break;
            }
        }
        turn.close().await?;
        Ok(outcomes)
    }
}
