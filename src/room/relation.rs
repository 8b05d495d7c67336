//! The index of relations and threads, kept in step with the events.

use ruma::{OwnedEventId, OwnedRoomId};

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

impl Related {
    /// Whether nothing depends on what was written before.
    pub(super) fn is_plain(&self) -> bool {
        self.thread.is_none()
    }

    /// Writes the rows, at the position of the fact added last.
    pub(super) fn record(&self, commit: &mut Commit, room: &OwnedRoomId, pdu: &Pdu) {
        debug_assert_eq!(pdu.event_id(), self.row.event_id);
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
        let Some(Relation { parent: Some((rel_type, parent)), key, .. }) = relates::of(pdu) else {
            return Ok(None);
        };
        let event_id = pdu.event_id().to_owned();
        let thread = match rel_type == THREAD {
            true => {
                let history = &self.rooms.0.history;
                let latest = latest(history, &parent, THREAD, 1).await?.pop().map(|(position, _)| position);
                let count = match latest {
                    Some(at) => thread_at(history, &self.room_id, at).await?.map_or(0, |row| row.count),
                    None => 0,
                };
                let row = ThreadRow { root: parent.clone(), latest: event_id.clone(), count: count + 1 };
                Some(Moved { from: latest, row })
            }
            false => None,
        };
        let row = RelationRow {
            event_id,
            event_type: pdu.event_type().to_string(),
            sender: pdu.sender().to_owned(),
            key: key.filter(|_| rel_type == "m.annotation"),
        };
        Ok(Some(Related { parent, rel_type, row, thread }))
    }

    /// Takes the relation of `target`, which is being redacted, out of the index.
    pub(super) async fn unrelate(&mut self, target: &StoredEvent) -> Result<(), RoomError> {
        let Some(Relation { parent: Some((rel_type, parent)), .. }) = relates::of(&target.pdu) else {
            return Ok(());
        };
        let position = Boundary::at(target.position);
        if rel_type == THREAD {
            let history = &self.rooms.0.history;
            let last = latest(history, &parent, THREAD, 2).await?;
            if let Some((newest, _)) = last.first() {
                let (room, newest) = (self.room_id.clone(), *newest);
                let count = thread_at(history, &room, newest).await?.map_or(0, |row| row.count);
                let left = match newest == position {
                    true => last.get(1),
                    false => last.first(),
                };
                let left = left.map(|(at, row)| {
                    let latest = row.event_id.clone();
                    (*at, ThreadRow { root: parent.clone(), latest, count: count.saturating_sub(1) })
                });
                self.extra.push(Box::new(move |commit| {
                    commit.delete(&THREADS, &(room.clone(), newest));
                    if let Some((at, row)) = left {
                        commit.put(&THREADS, &(room, at), &row);
                    }
                }));
            }
        }
        self.extra.push(Box::new(move |commit| {
            commit.delete(&RELATIONS, &(parent, rel_type, position));
        }));
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

/// The latest events with one relation to `parent`, newest first.
async fn latest(
    history: &History,
    parent: &ruma::EventId,
    rel_type: &str,
    limit: usize,
) -> Result<Vec<(Boundary, RelationRow)>, RoomError> {
    let from = RELATIONS.prefix(&(parent.to_owned(), String::from(rel_type)));
    let to = from.after_prefix();
    let rows = history.log().db().scan(&RELATIONS, Scan { from, to, reverse: true, limit }).await?;
    Ok(rows.into_iter().map(|((_, _, position), row)| (position, row)).collect())
}

async fn thread_at(
    history: &History,
    room: &OwnedRoomId,
    at: Boundary,
) -> Result<Option<ThreadRow>, RoomError> {
    Ok(history.log().db().row(&THREADS, &(room.clone(), at)).await?)
}
