//! Events without a place in the graph: auth events, and states that others tell of.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedEventId, RoomId};

use super::batch::ordered;
use crate::{
    dag::{Pdu, Signed, Verdict, judge::judge_outlier, pdu::create_of_room},
    history::{EventNotes, RoomRow, Status, StoredEvent},
    limits::{OUTLIERS_PER_COMMIT, ROOM_CONFLICTS_MAX},
    log::{Commit, CommitError},
    room::{RoomError, Rooms},
    types::Position,
};

/// Judges `events` by their auth events, and keeps those that are not stored yet: the good ones as
/// outliers, the others as rejected. What cannot be judged, because an auth event is not to be had, is not
/// kept but given back.
pub(in crate::room) async fn store(
    rooms: &Rooms,
    room: &RoomId,
    row: Arc<RoomRow>,
    events: Vec<Signed>,
) -> Result<Vec<Pdu>, RoomError> {
    let (mut judged, unjudged) = judge_all(rooms, room, &row, events).await?;
    for _ in 0..=ROOM_CONFLICTS_MAX {
        let ids: Vec<OwnedEventId> = judged.iter().map(|event| event.pdu.event_id().to_owned()).collect();
        let absent: HashSet<OwnedEventId> = rooms.history().not_stored(ids).await?.into_iter().collect();
        judged.retain(|event| absent.contains(event.pdu.event_id()));
        match write(rooms, &mut judged).await {
            Ok(()) => return Ok(unjudged),
            // Somebody has stored one of them meanwhile.
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RoomError::Conflict)
}

/// Writes `events`, and takes away those that are written.
async fn write(rooms: &Rooms, events: &mut Vec<StoredEvent>) -> Result<(), CommitError> {
    while !events.is_empty() {
        let count = events.len().min(OUTLIERS_PER_COMMIT);
        let mut commit = Commit::new();
        for event in &events[..count] {
            event.expect_absent(&mut commit);
            event.record(&mut commit);
        }
        rooms.history().log().commit(commit).await?;
        events.drain(..count);
    }
    Ok(())
}

/// Verdicts on events that are not stored, each after those that it names; and those that there are none on.
async fn judge_all(
    rooms: &Rooms,
    room: &RoomId,
    row: &RoomRow,
    events: Vec<Signed>,
) -> Result<(Vec<StoredEvent>, Vec<Pdu>), RoomError> {
    let rules = row.rules();
    let events: BTreeMap<OwnedEventId, Signed> =
        events.into_iter().map(|event| (event.pdu().event_id().to_owned(), event)).collect();
    let create = create_of_room(room).filter(|_| rules.authorization.room_create_event_id_as_room_id);
    let named =
        events.values().flat_map(|event| event.pdu().auth_events()).chain(&create).chain(events.keys());
    let mut named: Vec<OwnedEventId> = named.cloned().collect();
    named.sort_unstable();
    named.dedup();
    let mut known: HashMap<OwnedEventId, Pdu> = HashMap::with_capacity(named.len());
    for stored in rooms.history().events(&named).await?.into_iter().flatten() {
        known.insert(stored.pdu.event_id().to_owned(), stored.pdu.clone());
    }
    let auth_events = |id| {
        let named = events.get(id).map(|event| event.pdu().auth_events()).unwrap_or_default();
        // In room version 12 the create event is implied, and comes before everything.
        let implied = create.iter().filter(|create| *create != id);
        named.iter().chain(implied).collect::<Vec<_>>()
    };
    let (mut judged, mut unjudged) = (Vec::new(), Vec::new());
    for id in ordered(events.keys(), auth_events) {
        let Some(event) = events.get(id).filter(|_| !known.contains_key(id)) else { continue };
        let (pdu, status, reason) = match judge_outlier(event, rules, |id| known.get(id).cloned()) {
            Verdict::Accepted(pdu) => (pdu, Status::Outlier, None),
            Verdict::Rejected(pdu, why) | Verdict::SoftFailed(pdu, why) => {
                (pdu.into_rejected(), Status::Rejected, Some(why.to_string()))
            }
            Verdict::Missing(missing) => {
                tracing::debug!(event.id = %id, ?missing, "left {id} unjudged");
                unjudged.push(event.pdu().clone());
                continue;
            }
        };
        known.insert(id.clone(), pdu.clone());
        judged.push(StoredEvent {
            pdu,
            position: Position::ZERO,
            status,
            version: row.version.clone(),
            states: None,
            notes: EventNotes { reason, ..EventNotes::default() },
        });
    }
    Ok((judged, unjudged))
}
