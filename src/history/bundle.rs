//! What is told with an event of those that relate to it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedUserId, events::TimelineEventType};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Bundles, Shape, StoredEvent, Viewer,
    tables::{RELATIONS, RelationRow, THREADS},
};
use crate::{
    dag::relates,
    limits::RELATIONS_BUNDLED_MAX,
    store::{Key, Scan, StoreError},
    types::Position,
};

/// The ways of relating that are aggregated.
const KINDS: [&str; 3] = ["m.reference", "m.replace", "m.thread"];

/// Events that relate to another, newest first.
type Relating = Vec<(Position, RelationRow)>;

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
        let mut bundles = Bundles::new();
        for (event, rows) in events.iter().zip(self.relating_rows(events).await?) {
            let [references, edits, replies] = &rows;
            let thread = self.thread(event, replies).await?;
            if let Some(text) = self.aggregated(event, (references, edits), thread).await? {
                bundles.insert(event.pdu.event_id().to_owned(), text);
            }
        }
        Ok(bundles)
    }

    /// The newest events that relate to each of `events`, by [`KINDS`].
    async fn relating_rows(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<[Relating; 3]>, StoreError> {
        let scans: Vec<Scan> =
            events.iter().flat_map(|event| KINDS.map(|kind| newest(event, kind))).collect();
        if scans.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.history.log().db().scan_many(&scans).await?.into_iter();
        let mut next = || {
            let row = |(key, value): (Key, Vec<u8>)| -> Result<_, StoreError> {
                let (_, _, position) = RELATIONS.decode_key(&key)?;
                Ok((position, RELATIONS.decode(&value)?))
            };
            found.next().unwrap_or_default().into_iter().map(row).collect::<Result<Relating, _>>()
        };
        events.iter().map(|_| Ok([next()?, next()?, next()?])).collect()
    }

    /// What is told with one event, if that is anything.
    async fn aggregated(
        &mut self,
        event: &StoredEvent,
        (references, edits): (&Relating, &Relating),
        thread: Option<Thread>,
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        if references.is_empty() && edits.is_empty() && thread.is_none() {
            return Ok(None);
        }
        let aggregated = Aggregated {
            reference: self.references(references).await?,
            replace: self.replacement(event, edits).await?,
            thread,
        };
        let text = to_raw_value(&aggregated).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok((text.get() != "{}").then_some(text))
    }

    /// Those of `roots` in whose threads there is a reply that the user gets.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn with_replies(
        &mut self,
        roots: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let rows = self.relating_rows(&roots).await?;
        let mut found = Vec::with_capacity(roots.len());
        for (root, [_, _, replies]) in roots.into_iter().zip(rows) {
            if self.latest(&root, &replies).await?.is_some() {
                found.push(root);
            }
        }
        Ok(found)
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

    async fn references(&mut self, rows: &Relating) -> Result<Option<References>, StoreError> {
        let ids: Vec<OwnedEventId> = rows.iter().rev().map(|(_, row)| row.event_id.clone()).collect();
        let events = self.history.events(&ids).await?.into_iter().flatten().collect();
        let seen = self.filter(events).await?;
        let reference = |event: Arc<StoredEvent>| Reference { event_id: event.pdu.event_id().to_owned() };
        let chunk: Vec<Reference> = seen.into_iter().map(reference).collect();
        Ok((!chunk.is_empty()).then_some(References { chunk }))
    }

    /// The newest edit that counts: by the sender of the event, of its type, with something new, and not of
    /// a state event or another edit.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
    async fn replacement(
        &mut self,
        event: &StoredEvent,
        rows: &Relating,
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        let is_edit = || relates::of(&event.pdu).is_some_and(|relation| relation.replaces().is_some());
        if event.pdu.state_key().is_some() || event.notes.redacted_by.is_some() || is_edit() {
            return Ok(None);
        }
        let event_type = event.pdu.event_type().to_string();
        for (_, row) in rows {
            if row.sender == event.pdu.sender()
                && row.event_type == event_type
                && let Some(edit) = self.history.event(&row.event_id).await?
                && edit.pdu.state_key().is_none()
                && edit.pdu.room_id() == event.pdu.room_id()
                && has_new_content(&edit)
                && self.sees(&edit).await?
            {
                return self.render_one(&edit, Shape::Full).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The newest reply in a thread of somebody who is not ignored, and how many there are.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mthread-relationships>
    async fn thread(&mut self, root: &StoredEvent, rows: &Relating) -> Result<Option<Thread>, StoreError> {
        let Some((position, _)) = rows.first() else { return Ok(None) };
        let room = root.pdu.room_id().to_owned();
        let Some(row) = self.history.log().db().row(&THREADS, &(room, *position)).await? else {
            return Ok(None);
        };
        let Some(latest) = self.latest(root, rows).await? else { return Ok(None) };
        let ignored = rows.iter().filter(|(_, row)| self.ignored.contains(&row.sender)).count() as u64;
        Ok(Some(Thread {
            latest_event: self.render_latest(latest).await?,
            count: row.count.saturating_sub(ignored),
            current_user_participated: root.pdu.sender() == self.user || includes(rows, &self.user),
        }))
    }

    async fn latest(
        &mut self,
        root: &StoredEvent,
        rows: &Relating,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        for (_, row) in rows {
            if !self.ignored.contains(&row.sender)
                && let Some(event) = self.history.event(&row.event_id).await?
                && event.pdu.room_id() == root.pdu.room_id()
                && self.sees(&event).await?
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// With what belongs to it in turn, but for a thread: there are none in threads.
    async fn render_latest(&mut self, latest: Arc<StoredEvent>) -> Result<Box<RawValue>, StoreError> {
        let mut bundles = Bundles::new();
        for [references, edits, _] in self.relating_rows(std::slice::from_ref(&latest)).await? {
            if let Some(text) = self.aggregated(&latest, (&references, &edits), None).await? {
                bundles.insert(latest.pdu.event_id().to_owned(), text);
            }
        }
        let rendered = self.render(&[latest], Shape::Full, &bundles).await?;
        rendered.into_iter().next().ok_or_else(|| StoreError::Corrupt(String::from("nothing rendered")))
    }
}

/// Whether an edit says what the event is to be; in an encrypted one nobody here sees that.
fn has_new_content(edit: &StoredEvent) -> bool {
    #[derive(Deserialize)]
    struct Edit {
        #[serde(rename = "m.new_content")]
        _new: IgnoredAny,
    }
    *edit.pdu.event_type() == TimelineEventType::RoomEncrypted || edit.pdu.content_as::<Edit>().is_ok()
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
