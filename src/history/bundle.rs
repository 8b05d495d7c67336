//! What is told with an event of those that relate to it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedUserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Bundles, Shape, StoredEvent, Viewer,
    tables::{RELATIONS, RelationRow, THREADS},
};
use crate::{
    limits::RELATIONS_BUNDLED_MAX,
    store::{Key, Scan, StoreError},
    types::Position,
};

/// The ways of relating that are aggregated.
const KINDS: [&str; 3] = ["m.reference", "m.replace", "m.thread"];

#[derive(Default, Serialize)]
struct Aggregated {
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<References>,
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<Box<RawValue>>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
}

#[derive(Serialize)]
struct References {
    chunk: Vec<Reference>,
}

#[derive(Serialize)]
struct Reference {
    event_id: OwnedEventId,
}

#[derive(Serialize)]
struct Thread {
    latest_event: Box<RawValue>,
    count: u64,
    current_user_participated: bool,
}

impl Viewer {
    /// What is told with each of `events` of the edits, references and threads that belong to it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bundles(&mut self, events: &[Arc<StoredEvent>]) -> Result<Bundles, StoreError> {
        let scans: Vec<Scan> =
            events.iter().flat_map(|event| KINDS.map(|kind| newest(event, kind))).collect();
        let mut bundles = Bundles::new();
        if scans.is_empty() {
            return Ok(bundles);
        }
        let db = self.history.log().db().clone();
        let mut found = db.scan_many(&scans).await?.into_iter();
        for event in events {
            let mut rows = Vec::with_capacity(KINDS.len());
            for found in found.by_ref().take(KINDS.len()) {
                let row = |(key, value): (Key, Vec<u8>)| -> Result<_, StoreError> {
                    let (_, _, position) = RELATIONS.decode_key(&key)?;
                    Ok((position, RELATIONS.decode(&value)?))
                };
                rows.push(found.into_iter().map(row).collect::<Result<Vec<_>, _>>()?);
            }
            let [references, edits, replies] = &rows[..] else { continue };
            if references.is_empty() && edits.is_empty() && replies.is_empty() {
                continue;
            }
            let aggregated = Aggregated {
                reference: self.references(references).await?,
                replace: self.replacement(event, edits).await?,
                thread: self.thread(event, replies).await?,
            };
            let text = to_raw_value(&aggregated).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            if text.get() != "{}" {
                bundles.insert(event.pdu.event_id().to_owned(), text);
            }
        }
        Ok(bundles)
    }

    /// Those of `roots` in whose threads the user has a part.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn participated(
        &mut self,
        roots: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut found = Vec::new();
        for root in roots {
            let rows = self.history.log().db().scan(&RELATIONS, newest(&root, "m.thread")).await?;
            if root.pdu.sender() == self.user || rows.iter().any(|(_, row)| row.sender == self.user) {
                found.push(root);
            }
        }
        Ok(found)
    }

    async fn references(
        &mut self,
        rows: &[(Position, RelationRow)],
    ) -> Result<Option<References>, StoreError> {
        let ids: Vec<OwnedEventId> = rows.iter().rev().map(|(_, row)| row.event_id.clone()).collect();
        let events = self.history.events(&ids).await?.into_iter().flatten().collect();
        let seen = self.filter(events).await?;
        let reference = |event: Arc<StoredEvent>| Reference { event_id: event.pdu.event_id().to_owned() };
        let chunk: Vec<Reference> = seen.into_iter().map(reference).collect();
        Ok((!chunk.is_empty()).then_some(References { chunk }))
    }

    /// The newest edit that counts: by the sender of the event, of its type, and not of a state event.
    async fn replacement(
        &mut self,
        event: &StoredEvent,
        rows: &[(Position, RelationRow)],
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        if event.pdu.state_key().is_some() || event.notes.redacted_by.is_some() {
            return Ok(None);
        }
        let event_type = event.pdu.event_type().to_string();
        for (_, row) in rows {
            if row.sender == event.pdu.sender()
                && row.event_type == event_type
                && let Some(edit) = self.history.event(&row.event_id).await?
                && edit.pdu.state_key().is_none()
                && edit.pdu.room_id() == event.pdu.room_id()
                && self.sees(&edit).await?
            {
                return self.render_one(&edit, Shape::Full).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn thread(
        &mut self,
        root: &StoredEvent,
        rows: &[(Position, RelationRow)],
    ) -> Result<Option<Thread>, StoreError> {
        let Some((position, newest)) = rows.first() else { return Ok(None) };
        let room = root.pdu.room_id().to_owned();
        let row = self.history.log().db().row(&THREADS, &(room.clone(), *position)).await?;
        let latest = self.history.event(&newest.event_id).await?;
        let (Some(row), Some(latest)) = (row, latest) else { return Ok(None) };
        if latest.pdu.room_id() != room || !self.sees(&latest).await? {
            return Ok(None);
        }
        Ok(Some(Thread {
            latest_event: self.render_one(&latest, Shape::Full).await?,
            count: row.count,
            current_user_participated: root.pdu.sender() == self.user || includes(rows, &self.user),
        }))
    }
}

fn includes(rows: &[(Position, RelationRow)], user: &OwnedUserId) -> bool {
    rows.iter().any(|(_, row)| row.sender == *user)
}

/// The newest events that relate to `event` in one way.
fn newest(event: &StoredEvent, kind: &str) -> Scan {
    let from = RELATIONS.prefix(&(event.pdu.event_id().to_owned(), String::from(kind)));
    let to = from.after_prefix();
    Scan { from, to, reverse: true, limit: RELATIONS_BUNDLED_MAX }
}
