//! The index of relations and threads, kept in step with the events.
//!
//! An event of the timeline is indexed with its fact, at the position of that. Where events come as part of the past, or
//! go from the index, their place is known: that is written at the end of the turn, for all of them together, since what
//! is counted of a thread stands in one row.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId};

use super::{RoomError, turn::Turn};
use crate::{
    dag::{
        Pdu,
        relates::{self, Relation},
    },
    history::{
        Boundary, History, StoredEvent,
        tables::{RELATIONS, RelationRow, THREADS, ThreadRow},
    },
    limits::ANNOTATIONS_LOOKED_AT_MAX,
    log::Commit,
    store::Scan,
};

const THREAD: &str = "m.thread";

/// The key of a row in [`RELATIONS`]: the event that is related to, how, and where the relating event is.
pub(super) type RelationKey = (OwnedEventId, String, Boundary);

/// What is written for the relation of a new event.
pub(super) struct Related {
    parent: OwnedEventId,
    rel_type: String,
    row: RelationRow,
    thread: Option<Moved>,
}

/// A thread with a new latest event.
struct Moved {
    from: Option<Boundary>,
    row: ThreadRow,
}

/// What a turn changes of a thread, but for new events of the timeline.
#[derive(Default)]
struct Shift {
    come: Vec<(Boundary, OwnedEventId)>,
    gone: BTreeSet<Boundary>,
}

impl Shift {
    /// How many events a thread has that had `count`.
    fn apply(&self, count: u64) -> u64 {
        let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        count.saturating_add(number(self.come.len())).saturating_sub(number(self.gone.len()))
    }
}

impl Related {
    /// Whether nothing depends on what was written before.
    pub(super) fn is_plain(&self) -> bool {
        self.thread.is_none()
    }

    /// Writes the rows, at the position of the fact added last.
    pub(super) fn record(&self, commit: &mut Commit, room: &OwnedRoomId, pdu: &Pdu) {
        debug_assert_eq!(pdu.event_id(), self.row.event_id);
        // A position alone is how the place of an event of the timeline is written.
        let before = RELATIONS.prefix(&(self.parent.clone(), self.rel_type.clone()));
        commit.put_at_position(before, RELATIONS.encode(&self.row));
        if let Some(Moved { from, row }) = &self.thread {
            if let Some(from) = from {
                commit.delete(&THREADS, &(room.clone(), *from));
            }
            commit.put_at_position(THREADS.prefix(&(room.clone(),)), THREADS.encode(row));
        }
    }
}

impl Turn {
    /// What is to be written for the relation of `pdu`, if it has one.
    pub(super) async fn relate(&self, pdu: &Pdu) -> Result<Option<Related>, RoomError> {
        let Some((parent, rel_type, row)) = relation_of(pdu) else { return Ok(None) };
        if !self.elsewhere(std::slice::from_ref(&parent)).await?.is_empty() {
            return Ok(None);
        }
        let thread = match rel_type == THREAD {
            true => {
                let history = &self.rooms.0.history;
                let (from, count) = match latest(history, &parent, THREAD, 1).await?.pop() {
                    Some((place, _)) => {
                        let row = history.log().db().row(&THREADS, &(self.room_id.clone(), place)).await?;
                        (Some(place), row.map_or(0, |row| row.count))
                    }
                    None => (None, 0),
                };
                let latest = row.event_id.clone();
                Some(Moved { from, row: ThreadRow { root: parent.clone(), latest, count: count + 1 } })
            }
            false => None,
        };
        Ok(Some(Related { parent, rel_type, row, thread }))
    }

    /// Takes the relation of `target`, of which nothing more is shown, out of the index.
    pub(super) async fn unrelate(&mut self, target: &StoredEvent) -> Result<(), RoomError> {
        if let Some((parent, rel_type, _)) = relation_of(&target.pdu)
            && let Some(place) = self.rooms.0.history.place(target).await?
        {
            self.unrelated.insert((parent, rel_type, place));
        }
        Ok(())
    }

    /// Has the index changed by what came as part of the past, and by what has gone. Nothing more may happen in this turn.
    pub(super) async fn index(&mut self) -> Result<(), RoomError> {
        let gone = self.gone().await?;
        let come = self.come().await?;
        if gone.is_empty() && come.is_empty() {
            return Ok(());
        }
        let mut threads: BTreeMap<OwnedEventId, Shift> = BTreeMap::new();
        for (parent, _, place) in gone.iter().filter(|(_, rel_type, _)| rel_type == THREAD) {
            threads.entry(parent.clone()).or_default().gone.insert(*place);
        }
        for ((parent, _, place), row) in come.iter().filter(|((_, rel_type, _), _)| rel_type == THREAD) {
            threads.entry(parent.clone()).or_default().come.push((*place, row.event_id.clone()));
        }
        self.shift_threads(threads).await?;
        self.extra.push(Box::new(move |commit| {
            gone.iter().for_each(|key| commit.delete(&RELATIONS, key));
            come.iter().for_each(|(key, row)| commit.put(&RELATIONS, key, row));
        }));
        Ok(())
    }

    /// What goes of the index and is there.
    async fn gone(&mut self) -> Result<Vec<RelationKey>, RoomError> {
        let keys: Vec<RelationKey> = mem::take(&mut self.unrelated).into_iter().collect();
        if keys.is_empty() {
            return Ok(keys);
        }
        let rows = self.rooms.0.history.log().db().rows(&RELATIONS, &keys).await?;
        Ok(keys.into_iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(key, _)| key).collect())
    }

    /// The rows of what came as part of the past, as it is by now: it may have been redacted since it came.
    async fn come(&self) -> Result<Vec<(RelationKey, RelationRow)>, RoomError> {
        let row = |(position, number, id): &(_, _, OwnedEventId)| {
            let (parent, rel_type, row) = relation_of(&self.fresh.get(id)?.pdu)?;
            Some(((parent, rel_type, Boundary { position: *position, number: *number }), row))
        };
        let mut rows: Vec<(RelationKey, RelationRow)> = self.filled.iter().filter_map(row).collect();
        let parents: Vec<OwnedEventId> = rows.iter().map(|((parent, ..), _)| parent.clone()).collect();
        let elsewhere = self.elsewhere(&parents).await?;
        rows.retain(|((parent, ..), _)| !elsewhere.contains(parent));
        Ok(rows)
    }

    /// Those of `ids` that are events of other rooms, as far as is known: whoever is not there shall not be counted there.
    async fn elsewhere(&self, ids: &[OwnedEventId]) -> Result<BTreeSet<OwnedEventId>, RoomError> {
        let found = self.rooms.0.history.events(ids).await?.into_iter().flatten();
        let elsewhere = found.filter(|event| event.pdu.room_id() != self.room_id);
        Ok(elsewhere.map(|event| event.pdu.event_id().to_owned()).collect())
    }

    async fn shift_threads(&mut self, mut threads: BTreeMap<OwnedEventId, Shift>) -> Result<(), RoomError> {
        // A new event of the timeline is the latest one, whatever comes and goes before it.
        let related = self.written.iter_mut().filter_map(|written| written.related.as_mut());
        for moved in related.filter_map(|related| related.thread.as_mut()) {
            if let Some(shift) = threads.remove(&moved.row.root) {
                moved.row.count = shift.apply(moved.row.count);
            }
        }
        if threads.is_empty() {
            return Ok(());
        }
        let db = self.rooms.0.history.log().db().clone();
        let scans: Vec<Scan> =
            threads.iter().map(|(root, shift)| newest(root, THREAD, shift.gone.len() + 1)).collect();
        let mut replies: Vec<Vec<(Boundary, OwnedEventId)>> = Vec::with_capacity(scans.len());
        for found in db.scan_many(&scans).await? {
            let reply = |(key, value): (_, Vec<u8>)| {
                let (_, _, place) = RELATIONS.decode_key(&key)?;
                Ok::<_, RoomError>((place, RELATIONS.decode(&value)?.event_id))
            };
            replies.push(found.into_iter().map(reply).collect::<Result<_, _>>()?);
        }
        // Threads that have no event yet have no row, and none is at the beginning.
        let at = |replies: &Vec<(Boundary, _)>| replies.first().map_or(Boundary::START, |(place, _)| *place);
        let keys: Vec<(OwnedRoomId, Boundary)> =
            replies.iter().map(|replies| (self.room_id.clone(), at(replies))).collect();
        let rows = db.rows(&THREADS, &keys).await?;
        for (((root, shift), replies), (key, row)) in
            threads.into_iter().zip(replies).zip(keys.into_iter().zip(rows))
        {
            let count = shift.apply(row.map_or(0, |row| row.count));
            let kept = replies.into_iter().find(|(place, _)| !shift.gone.contains(place));
            let latest = kept.into_iter().chain(shift.come).max();
            self.extra.push(Box::new(move |commit| {
                commit.delete(&THREADS, &key);
                if let Some((place, latest)) = latest {
                    commit.put(&THREADS, &(key.0, place), &ThreadRow { root, latest, count });
                }
            }));
        }
        Ok(())
    }

    /// Refuses relations that the specification forbids to clients.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#threading>
    pub(super) async fn check_relation(&self, event: &super::turn::NewEvent) -> Result<(), RoomError> {
        let Some(relation) = relates::of_content(&event.content) else { return Ok(()) };
        let history = &self.rooms.0.history;
        if let Some(root) = relation.thread_root()
            && let Some(root) = history.event(root).await?
            && relates::of(&root.pdu).is_some_and(|relation| relation.parent.is_some())
        {
            return Err(RoomError::invalid("A thread cannot begin at an event that relates to another"));
        }
        if let Some((parent, key)) = relation.annotates() {
            let rows = latest(history, parent, "m.annotation", ANNOTATIONS_LOOKED_AT_MAX).await?;
            let kind = event.event_type.to_string();
            let is_same = |row: &RelationRow| {
                row.sender == event.sender && row.event_type == kind && row.key.as_deref() == Some(key)
            };
            if rows.iter().any(|(_, row)| is_same(row)) {
                return Err(RoomError::DuplicateAnnotation);
            }
        }
        Ok(())
    }
}

/// To which event one relates, how, and what the index says of it.
fn relation_of(pdu: &Pdu) -> Option<(OwnedEventId, String, RelationRow)> {
    let Relation { parent, key, .. } = relates::of(pdu)?;
    let (rel_type, parent) = parent?;
    let row = RelationRow {
        event_id: pdu.event_id().to_owned(),
        event_type: pdu.event_type().to_string(),
        sender: pdu.sender().to_owned(),
        key: key.filter(|_| rel_type == "m.annotation"),
    };
    Some((parent, rel_type, row))
}

fn newest(parent: &EventId, rel_type: &str, limit: usize) -> Scan {
    let from = RELATIONS.prefix(&(parent.to_owned(), String::from(rel_type)));
    let to = from.after_prefix();
    Scan { from, to, reverse: true, limit }
}

/// The latest events with one relation to `parent`, newest first.
async fn latest(
    history: &History,
    parent: &EventId,
    rel_type: &str,
    limit: usize,
) -> Result<Vec<(Boundary, RelationRow)>, RoomError> {
    let rows = history.log().db().scan(&RELATIONS, newest(parent, rel_type, limit)).await?;
    Ok(rows.into_iter().map(|((_, _, place), row)| (place, row)).collect())
}
