//! Why what stands at a place of a room's state stands there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId};
use serde::Serialize;

use super::{History, Status, StoredEvent};
use crate::{
    dag::{StateId, StateKey, auth},
    limits::{EXPLAINED_EVENTS_MAX, EXPLAINED_HIDDEN_MAX},
    store::StoreError,
};

/// A place of a room's current state, and what there is to say of it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What stands there.
    pub current: Option<Candidate>,
    /// Whether its forks agree on that: the newest events of the room, and what stands there after each.
    pub forks: BTreeMap<OwnedEventId, Option<OwnedEventId>>,
    /// What stands there after one of these and not in the room, and what was not taken.
    pub others: Vec<Candidate>,
    /// What stood there before, by the state before each event, newest first.
    pub earlier: Vec<Candidate>,
}

/// An event that stands somewhere, or might.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// When, by the clock of its sender's server.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// How far it is from the room's beginning.
    pub depth: u64,
    /// Where it is in the log; 0 for what came as part of a state or of the past.
    pub position: u64,
    /// `accepted`, `soft_failed` or `rejected`.
    pub status: &'static str,
    /// Why it does not stand there.
    pub why: Option<String>,
}

impl Candidate {
    fn of(event: &StoredEvent, why: Option<String>) -> Self {
        let pdu = &event.pdu;
        Self {
            event_id: pdu.event_id().to_owned(),
            sender: pdu.sender().to_owned(),
            origin_server_ts: pdu.origin_server_ts(),
            depth: pdu.depth(),
            position: event.position.0,
            status: match event.status {
                Status::Timeline | Status::Backfilled | Status::Outlier => "accepted",
                Status::SoftFailed => "soft_failed",
                Status::Rejected => "rejected",
            },
            why,
        }
    }
}

impl History {
    /// Why what stands at `key` in the state of `room` stands there; `None` if this server does not know the room. With
    /// `with_hidden`, all events of the store are looked through for those that were not taken.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn explain(
        &self,
        room: &RoomId,
        key: &StateKey,
        with_hidden: bool,
    ) -> Result<Option<Explanation>, StoreError> {
        let Some(row) = self.room(room).await? else { return Ok(None) };
        let current = self.standing_at(row.state, key).await?;
        let mut forks = BTreeMap::new();
        let mut others: BTreeMap<OwnedEventId, Arc<StoredEvent>> = BTreeMap::new();
        for head in &row.heads {
            let Some(states) = self.state_at(&head.id).await? else { continue };
            let there = self.standing_at(states.after, key).await?;
            forks.insert(head.id.clone(), there.as_ref().map(|event| event.pdu.event_id().to_owned()));
            others.extend(there.map(|event| (event.pdu.event_id().to_owned(), event)));
        }
        if with_hidden {
            let is_of_place = |event: &StoredEvent| is_at(event, key);
            for event in self.hidden(room, (0, EXPLAINED_HIDDEN_MAX), &is_of_place).await? {
                others.insert(event.pdu.event_id().to_owned(), event);
            }
        }
        let mut earlier = self.earlier(current.clone(), key).await?;
        if let Some(current) = &current {
            others.remove(current.pdu.event_id());
        }
        let mut told = Vec::new();
        for event in others.values() {
            let why = self.why_not(event, row.state, current.as_deref()).await?;
            told.push(Candidate::of(event, Some(why)));
        }
        earlier.retain(|event| !others.contains_key(event.pdu.event_id()));
        Ok(Some(Explanation {
            current: current.map(|event| Candidate::of(&event, None)),
            forks,
            others: told,
            earlier: earlier.iter().map(|event| Candidate::of(event, None)).collect(),
        }))
    }

    async fn standing_at(
        &self,
        state: StateId,
        key: &StateKey,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        self.state_event(state, key.event_type.clone(), &key.state_key).await
    }

    /// What stood at a place before an event, before that, and so on.
    async fn earlier(
        &self,
        from: Option<Arc<StoredEvent>>,
        key: &StateKey,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let (mut next, mut seen, mut found) = (from, BTreeSet::new(), Vec::new());
        while let Some(event) = next.filter(|event| seen.insert(event.pdu.event_id().to_owned())) {
            next = match event.states {
                Some(states) if found.len() < EXPLAINED_EVENTS_MAX => {
                    self.standing_at(states.before, key).await?
                }
                _ => None,
            };
            found.extend(next.clone());
        }
        Ok(found)
    }

    /// Why an event does not stand in the current state of its room.
    async fn why_not(
        &self,
        event: &StoredEvent,
        state: StateId,
        current: Option<&StoredEvent>,
    ) -> Result<String, StoreError> {
        let reason = event.notes.reason.as_deref().unwrap_or("no reason was kept");
        match event.status {
            Status::Rejected => return Ok(format!("the rules forbid it where it stands: {reason}")),
            Status::SoftFailed => {
                return Ok(format!("what was current when it came did not allow it: {reason}"));
            }
            Status::Timeline | Status::Backfilled | Status::Outlier => {}
        }
        let rules = &event.rules().authorization;
        let mut stands = BTreeMap::new();
        for (event_type, state_key) in auth::state_keys(&event.pdu, rules).unwrap_or_default() {
            if let Some(found) = self.state_event(state, event_type.clone(), &state_key).await? {
                stands.insert((event_type.to_string(), state_key), found.pdu.clone());
            }
        }
        let allowed = auth::check_against(&event.pdu, rules, |event_type, state_key| {
            stands.get(&(event_type.to_string(), state_key.to_owned())).cloned()
        });
        Ok(match (allowed, current) {
            (Err(denied), _) => {
                format!("the resolution left it out: the room as it is does not allow it: {denied}")
            }
            (Ok(()), Some(current)) => {
                let current = current.pdu.event_id();
                format!("the room allows both; in the order of the resolution {current} comes after it")
            }
            (Ok(()), None) => String::from(
                "the resolution left it out: what it stood on was not allowed when it was its turn",
            ),
        })
    }
}

/// Whether an event would stand at a place.
fn is_at(event: &StoredEvent, key: &StateKey) -> bool {
    event.pdu.state_key() == Some(&*key.state_key)
        && event.pdu.event_type().to_string() == key.event_type.to_string()
}
