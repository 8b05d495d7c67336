//! What servers in a room may read of it: events, states, auth chains, the past.
//!
//! An event of another room, and one that is not here, are answered alike.

use std::{
    collections::{BinaryHeap, HashSet, VecDeque},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;

use super::{Federation, FederationError};
use crate::{
    dag::StateId,
    history::{Status, StoredEvent},
    limits::{BACKFILL_SERVED_MAX, GRAPH_WALK_MAX, MISSING_EVENTS_SERVED_MAX},
    store::StoreError,
};

type Json = Box<RawValue>;

const NO_EVENT: FederationError = FederationError::NotFound("There is no such event in the room");

/// Which events between some are wanted.
#[derive(Clone, Debug)]
pub struct Between {
    /// Where to stop.
    pub earliest: Vec<OwnedEventId>,
    /// Whose predecessors are wanted.
    pub latest: Vec<OwnedEventId>,
    /// How many at most.
    pub limit: usize,
    /// Events of less depth are not wanted.
    pub min_depth: u64,
}

impl Federation {
    /// One event.
    ///
    /// # Errors
    /// When there is none, or the server may not look into its room.
    pub async fn event(&self, server: &ServerName, event_id: &EventId) -> Result<Json, FederationError> {
        let event = self.history.event(event_id).await?.ok_or(NO_EVENT)?;
        let mut sight = self.enter(server, event.pdu.room_id()).await.map_err(|error| match error {
            // Nor is it told that there is such an event in a room that is none of its business.
            FederationError::Forbidden(_) => NO_EVENT,
            error => error,
        })?;
        match has_place(&event) {
            // A server in the room gets its state whole, and may fetch it part by part.
            true if self.history.is_current(&event).await? => Ok(event.pdu.json().to_owned()),
            true => sight.show(&event).await,
            false => Err(NO_EVENT),
        }
    }

    /// The ids of the state before an event, and of its auth chain.
    ///
    /// # Errors
    /// When the server may not look into the room, or the event is not in it.
    pub async fn state_ids(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<(Vec<OwnedEventId>, Vec<OwnedEventId>), FederationError> {
        let (state, chain) = self.state_events_before(server, room, event_id).await?;
        let ids = |events: Vec<Arc<StoredEvent>>| {
            events.into_iter().map(|event| event.pdu.event_id().to_owned()).collect()
        };
        Ok((ids(state), ids(chain)))
    }

    /// The state before an event, and its auth chain.
    ///
    /// # Errors
    /// As [`Self::state_ids`].
    pub async fn state(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<(Vec<Json>, Vec<Json>), FederationError> {
        let (state, chain) = self.state_events_before(server, room, event_id).await?;
        Ok((texts(&state), texts(&chain)))
    }

    /// The auth chain of an event.
    ///
    /// # Errors
    /// As [`Self::state_ids`].
    pub async fn event_auth(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Json>, FederationError> {
        self.enter(server, room).await?;
        let event = self.event_in(room, event_id).await?;
        Ok(texts(&self.history.auth_chain(&[event], &HashSet::new()).await?))
    }

    /// Events up to those named, which are included, the latest first.
    ///
    /// # Errors
    /// When the server may not look into the room.
    pub async fn backfill(
        &self,
        server: &ServerName,
        room: &RoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<Json>, FederationError> {
        let mut sight = self.enter(server, room).await?;
        let limit = limit.min(BACKFILL_SERVED_MAX);
        let mut shown = Vec::new();
        let (mut seen, mut heap) = (HashSet::new(), BinaryHeap::new());
        self.push(room, from, (&mut seen, &mut heap)).await?;
        while let Some(Aged(event)) = heap.pop() {
            if shown.len() >= limit || seen.len() > GRAPH_WALK_MAX {
                break;
            }
            if event.is_shown() {
                shown.push(sight.show(&event).await?);
            }
            self.push(room, event.pdu.prev_events().to_vec(), (&mut seen, &mut heap)).await?;
        }
        Ok(shown)
    }

    /// Events between some, the earliest first.
    ///
    /// # Errors
    /// When the server may not look into the room.
    pub async fn missing_events(
        &self,
        server: &ServerName,
        room: &RoomId,
        between: Between,
    ) -> Result<Vec<Json>, FederationError> {
        let mut sight = self.enter(server, room).await?;
        let Between { earliest, latest, limit, min_depth } = between;
        let limit = limit.min(MISSING_EVENTS_SERVED_MAX);
        let mut seen: HashSet<OwnedEventId> = earliest.into_iter().collect();
        let mut queue: VecDeque<OwnedEventId> = VecDeque::new();
        for event in self.history.events(&latest[..latest.len().min(limit)]).await?.into_iter().flatten() {
            if event.pdu.room_id() == room {
                seen.insert(event.pdu.event_id().to_owned());
                queue.extend(event.pdu.prev_events().iter().cloned());
            }
        }
        let mut found: Vec<Arc<StoredEvent>> = Vec::new();
        let mut walked = 0;
        while let Some(id) = queue.pop_front() {
            if found.len() >= limit || walked >= GRAPH_WALK_MAX {
                break;
            }
            walked += 1;
            if !seen.insert(id.clone()) {
                continue;
            }
            let Some(event) = self.history.event(&id).await? else { continue };
            if event.pdu.room_id() != room || event.pdu.depth() < min_depth || event.states.is_none() {
                continue;
            }
            queue.extend(event.pdu.prev_events().iter().cloned());
            if event.status != Status::Rejected {
                found.push(event);
            }
        }
        found.sort_by_key(|event| event.pdu.depth());
        let mut shown = Vec::with_capacity(found.len());
        for event in found {
            shown.push(sight.show(&event).await?);
        }
        Ok(shown)
    }

    /// The events of a state, and its auth chain.
    pub(super) async fn state_with_chain(
        &self,
        state: StateId,
    ) -> Result<(Vec<Arc<StoredEvent>>, Vec<Arc<StoredEvent>>), StoreError> {
        let state = self.history.state_events(state, None).await?;
        let chain = self.history.auth_chain(&state, &HashSet::new()).await?;
        Ok((state, chain))
    }

    async fn state_events_before(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<(Vec<Arc<StoredEvent>>, Vec<Arc<StoredEvent>>), FederationError> {
        self.enter(server, room).await?;
        let event = self.history.event(event_id).await?;
        let event = event.filter(|event| event.pdu.room_id() == room);
        let states = event.and_then(|event| event.sound_states()).ok_or(NO_EVENT)?;
        Ok(self.state_with_chain(states.before).await?)
    }

    async fn event_in(&self, room: &RoomId, event_id: &EventId) -> Result<Arc<StoredEvent>, FederationError> {
        let event = self.history.event(event_id).await?;
        let event = event.filter(|event| event.pdu.room_id() == room && event.status != Status::Rejected);
        event.ok_or(NO_EVENT)
    }

    /// Queues events of the room that are in the graph and were not seen yet.
    async fn push(
        &self,
        room: &RoomId,
        ids: Vec<OwnedEventId>,
        (seen, heap): (&mut HashSet<OwnedEventId>, &mut BinaryHeap<Aged>),
    ) -> Result<(), StoreError> {
        let ids: Vec<OwnedEventId> =
            ids.into_iter().take(GRAPH_WALK_MAX).filter(|id| seen.insert(id.clone())).collect();
        for event in self.history.events(&ids).await?.into_iter().flatten() {
            if event.pdu.room_id() == room && event.states.is_some() {
                heap.push(Aged(event));
            }
        }
        Ok(())
    }
}

/// Whether an event may be told. One that was rejected is, where it has a place in the graph: whoever lacks it needs it
/// to judge what follows it, and its sender need not have told it to everybody.
fn has_place(event: &StoredEvent) -> bool {
    event.status != Status::Rejected || event.states.is_some()
}

/// An event; the deeper is the greater.
struct Aged(Arc<StoredEvent>);

impl Aged {
    fn age(&self) -> (u64, u64, &EventId) {
        let pdu = &self.0.pdu;
        (pdu.depth(), pdu.origin_server_ts().0.into(), pdu.event_id())
    }
}

impl PartialEq for Aged {
    fn eq(&self, other: &Self) -> bool {
        self.age() == other.age()
    }
}

impl Eq for Aged {}

impl PartialOrd for Aged {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Aged {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.age().cmp(&other.age())
    }
}

fn texts(events: &[Arc<StoredEvent>]) -> Vec<Json> {
    events.iter().map(|event| event.pdu.json().to_owned()).collect()
}
