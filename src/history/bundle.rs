//! What is told with an event of those that relate to it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedUserId, events::TimelineEventType};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Boundary, Bundles, Shape, StoredEvent, Viewer,
    erasure::hidden,
    tables::{RELATIONS, RelationRow, THREADS},
};
use crate::{
    dag::relates,
    limits::{EDITS_LOOKED_AT_MAX, RELATIONS_BUNDLED_MAX, THREAD_REPLIES_LOOKED_AT_MAX},
    store::{Key, Scan, StoreError},
};

/// The ways of relating that are aggregated.
const KINDS: [&str; 3] = ["m.reference", "m.replace", "m.thread"];

/// Events that were read together, by id.
type Known = HashMap<OwnedEventId, Arc<StoredEvent>>;
/// Events that relate to another, newest first.
type Relating = Vec<(Boundary, RelationRow)>;

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
        let rows = self.relating_rows(events).await?;
        self.bundles_of(events, &rows).await
    }

    /// Those of `roots` in whose threads there is a reply that the user gets, and has a part if that is wanted; with
    /// what [`Self::bundles`] has of them. What was said by who is ignored is left out of the roots.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidthreads>
    ///
    /// # Errors
    /// When the store fails.
    pub async fn threads(
        &mut self,
        roots: Vec<Arc<StoredEvent>>,
        participated: bool,
    ) -> Result<(Vec<Arc<StoredEvent>>, Bundles), StoreError> {
        let rows = self.relating_rows(&roots).await?;
        let known = self.fetch_first(&rows).await?;
        let (mut found, mut of_found) = (Vec::new(), Vec::new());
        for (mut root, mut rows) in roots.into_iter().zip(rows) {
            let is_wanted = !participated || self.has_part(&root, &rows[2]).await?;
            if is_wanted && self.latest(&root, &rows[2], &known).await?.is_some() {
                if root.pdu.state_key().is_none() && self.ignored.contains(root.pdu.sender()) {
                    root = hidden(&root)?;
                    rows[1].clear();
                }
                found.push(root);
                of_found.push(rows);
            }
        }
        let bundles = self.bundles_of(&found, &of_found).await?;
        Ok((found, bundles))
    }

    async fn bundles_of(
        &mut self,
        events: &[Arc<StoredEvent>],
        rows: &[[Relating; 3]],
    ) -> Result<Bundles, StoreError> {
        let known = self.fetch_first(rows).await?;
        let mut bundles = Bundles::new();
        let threads = self.threads_of(events, rows, &known).await?;
        for ((event, [references, edits, _]), thread) in events.iter().zip(rows).zip(threads) {
            if let Some(text) = self.aggregated(event, (references, edits), thread, &known).await? {
                bundles.insert(event.pdu.event_id().to_owned(), text);
            }
        }
        Ok(bundles)
    }

    /// What is looked at first, read at once: the newest reply to each event, and the newest edit of it.
    async fn fetch_first(&self, rows: &[[Relating; 3]]) -> Result<Known, StoreError> {
        let newest = rows.iter().flat_map(|[_, edits, replies]| [edits.first(), replies.first()]);
        let ids: Vec<OwnedEventId> = newest.flatten().map(|(_, row)| row.event_id.clone()).collect();
        self.history.event_map(&ids).await
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
                let (_, _, place) = RELATIONS.decode_key(&key)?;
                Ok((place, RELATIONS.decode(&value)?))
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
        known: &Known,
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        if references.is_empty() && edits.is_empty() && thread.is_none() {
            return Ok(None);
        }
        let aggregated = Aggregated {
            reference: self.references(references).await?,
            replace: self.replacement(event, edits, known).await?,
            thread,
        };
        let text = to_raw_value(&aggregated).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok((text.get() != "{}").then_some(text))
    }

    async fn references(&mut self, rows: &Relating) -> Result<Option<References>, StoreError> {
        let ids: Vec<OwnedEventId> = rows.iter().rev().map(|(_, row)| row.event_id.clone()).collect();
        let events = self.history.events(&ids).await?.into_iter().flatten().collect();
        let mut seen = self.filter(events).await?;
        seen.retain(|event| !self.is_kept_from(event));
        let reference = |event: Arc<StoredEvent>| Reference { event_id: event.pdu.event_id().to_owned() };
        let chunk: Vec<Reference> = seen.into_iter().map(reference).collect();
        Ok((!chunk.is_empty()).then_some(References { chunk }))
    }

    /// The latest edit that counts: by the sender of the event, of its type, with something new, and not of
    /// a state event or another edit. The latest is the one that says so itself.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreplace-relationships>
    async fn replacement(
        &mut self,
        event: &StoredEvent,
        rows: &Relating,
        known: &Known,
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        let is_edit = || relates::of(&event.pdu).is_some_and(|relation| relation.replaces().is_some());
        if event.pdu.state_key().is_some() || event.notes.redacted_by.is_some() || is_edit() {
            return Ok(None);
        }
        for edit in self.edits(event, rows, known).await? {
            if edit.pdu.state_key().is_none()
                && edit.pdu.room_id() == event.pdu.room_id()
                && has_new_content(&edit)
                && !self.is_kept_from(&edit)
                && self.sees(&edit).await?
            {
                return self.render_one(&edit, Shape::Full).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The edits of an event by its sender, the latest first. However many others claim to have edited it, and to a
    /// bound, these are found behind theirs.
    async fn edits(
        &self,
        event: &StoredEvent,
        rows: &Relating,
        known: &Known,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let event_type = event.pdu.event_type().to_string();
        let is_own = |row: &RelationRow| row.sender == event.pdu.sender() && row.event_type == event_type;
        let own = |(_, row): &(_, RelationRow)| is_own(row).then(|| row.event_id.clone());
        let mut ids: Vec<OwnedEventId> = rows.iter().filter_map(own).collect();
        if ids.len() < rows.len() {
            ids.extend(
                self.older(event, KINDS[1], (rows, EDITS_LOOKED_AT_MAX)).await?.iter().filter_map(own),
            );
            ids.truncate(RELATIONS_BUNDLED_MAX);
        }
        let mut edits = match &ids[..] {
            [id] => self.read(id, known).await?.into_iter().collect(),
            ids => self.history.events(ids).await?.into_iter().flatten().collect::<Vec<_>>(),
        };
        let when =
            |edit: &Arc<StoredEvent>| Reverse((edit.pdu.origin_server_ts(), edit.pdu.event_id().to_owned()));
        edits.sort_by_cached_key(when);
        Ok(edits)
    }

    /// What relates to an event in one way and is older than `rows`, which are the newest, newest first.
    async fn older(
        &self,
        event: &StoredEvent,
        kind: &str,
        (rows, limit): (&Relating, usize),
    ) -> Result<Relating, StoreError> {
        let Some((last, _)) = rows.last().filter(|_| rows.len() >= RELATIONS_BUNDLED_MAX) else {
            return Ok(Vec::new());
        };
        let to = RELATIONS.key(&(event.pdu.event_id().to_owned(), String::from(kind), *last));
        let scan = Scan { to, limit, ..newest(event, kind) };
        let found = self.history.log().db().scan(&RELATIONS, scan).await?;
        Ok(found.into_iter().map(|((_, _, place), row)| (place, row)).collect())
    }

    /// Whether the user has begun a thread or said something in it; `rows` are its newest replies.
    async fn has_part(&self, root: &StoredEvent, rows: &Relating) -> Result<bool, StoreError> {
        if root.pdu.sender() == self.user || includes(rows, &self.user) {
            return Ok(true);
        }
        let older = self.older(root, KINDS[2], (rows, THREAD_REPLIES_LOOKED_AT_MAX)).await?;
        Ok(includes(&older, &self.user))
    }

    /// Of each root, the newest reply in its thread of somebody who is not ignored, and how many there are. However
    /// many roots there are, the store is asked as often as for one.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mthread-relationships>
    async fn threads_of(
        &mut self,
        roots: &[Arc<StoredEvent>],
        rows: &[[Relating; 3]],
        known: &Known,
    ) -> Result<Vec<Option<Thread>>, StoreError> {
        let with_replies = || roots.iter().zip(rows).filter(|(_, [_, _, replies])| !replies.is_empty());
        let place = |(root, [_, _, replies]): (&Arc<StoredEvent>, &[Relating; 3])| {
            let (latest, _) = replies.first()?;
            Some((root.pdu.room_id().to_owned(), *latest))
        };
        let keys: Vec<_> = with_replies().filter_map(place).collect();
        let mut counts = self.history.log().db().rows(&THREADS, &keys).await?.into_iter();
        let (mut threads, mut shown) = (Vec::with_capacity(roots.len()), Vec::new());
        for (root, [_, _, replies]) in roots.iter().zip(rows) {
            let row = if replies.is_empty() { None } else { counts.next().flatten() };
            let latest = match row {
                Some(_) => self.latest(root, replies, known).await?,
                None => None,
            };
            threads.push(match row.filter(|_| latest.is_some()) {
                Some(row) => {
                    let is_ignored = |(_, row): &&(_, RelationRow)| self.ignored.contains(&row.sender);
                    let ignored = replies.iter().filter(is_ignored).count();
                    let has_part = self.has_part(root, replies).await?;
                    Some((row.count.saturating_sub(ignored as u64), has_part))
                }
                None => None,
            });
            shown.extend(latest);
        }
        let mut shown = self.render_latest(&shown).await?.into_iter();
        let mut told = |(count, current_user_participated)| {
            shown.next().map(|latest_event| Thread { latest_event, count, current_user_participated })
        };
        Ok(threads.into_iter().map(|thread| thread.and_then(&mut told)).collect())
    }

    async fn read(&self, id: &EventId, known: &Known) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        match known.get(id) {
            Some(event) => Ok(Some(event.clone())),
            None => self.history.event(id).await,
        }
    }

    async fn latest(
        &mut self,
        root: &StoredEvent,
        rows: &Relating,
        known: &Known,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        for (_, row) in rows {
            if !self.ignored.contains(&row.sender)
                && let Some(event) = self.read(&row.event_id, known).await?
                && event.pdu.room_id() == root.pdu.room_id()
                && !self.is_kept_from(&event)
                && self.sees(&event).await?
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Each with what belongs to it in turn, but for a thread: there are none in threads.
    async fn render_latest(&mut self, latest: &[Arc<StoredEvent>]) -> Result<Vec<Box<RawValue>>, StoreError> {
        let rows = self.relating_rows(latest).await?;
        let known = self.fetch_first(&rows).await?;
        let mut bundles = Bundles::new();
        for (event, [references, edits, _]) in latest.iter().zip(rows) {
            if let Some(text) = self.aggregated(event, (&references, &edits), None, &known).await? {
                bundles.insert(event.pdu.event_id().to_owned(), text);
            }
        }
        self.render(latest, Shape::Full, &bundles).await
    }
}

/// Whether an edit says what the event is to be; in an encrypted one nobody here sees that.
fn has_new_content(edit: &StoredEvent) -> bool {
    #[derive(Deserialize)]
    struct Edit {
        #[serde(rename = "m.new_content")]
        _new: HashMap<String, IgnoredAny>,
    }
    *edit.pdu.event_type() == TimelineEventType::RoomEncrypted || edit.pdu.content_as::<Edit>().is_ok()
}

fn includes(rows: &[(Boundary, RelationRow)], user: &OwnedUserId) -> bool {
    rows.iter().any(|(_, row)| row.sender == *user)
}

/// The newest events that relate to `event` in one way.
fn newest(event: &StoredEvent, kind: &str) -> Scan {
    let from = RELATIONS.prefix(&(event.pdu.event_id().to_owned(), String::from(kind)));
    let to = from.after_prefix();
    Scan { from, to, reverse: true, limit: RELATIONS_BUNDLED_MAX }
}
