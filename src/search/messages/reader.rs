//! Follows the log into the index.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use tantivy::{TantivyDocument, Term};
use tokio_util::sync::CancellationToken;

use super::{
    Messages, SearchError,
    ask::text_of,
    blocking,
    shelf::{Fields, Label, Shelf, room_code},
};
use crate::{
    history::{
        Boundary, StoredEvent,
        tables::{BACKFILLED, FORGOTTEN_TEXTS, LATE},
    },
    limits::{
        FORGOTTEN_TEXTS_KEPT_MS, PAGE_EVENTS_MAX, SCAN_ROWS_MAX, SEARCH_COMMIT_DOCUMENTS, SEARCH_CURSOR_STEP,
        SEARCH_FORGET_SLACK_MS, SEARCH_PAUSE, SEARCH_SCRUB_EVERY_MS, SEARCH_STORE_PAUSE,
    },
    log::{Commit, CommitError, Direction},
    search::follow::{Follow, touched_rooms},
    store::{Expect, Key, Scan, table::TableId},
    types::{Fact, Position},
};

/// Follows the log until the server stops.
pub(super) async fn run(messages: Messages, stopping: CancellationToken) {
    let following = async {
        loop {
            // One that a fault has left there would keep the folder.
            messages.0.shelf.store(None);
            match Reader::load(&messages).await {
                Ok(mut reader) => {
                    let log = messages.log();
                    let Err(error) = messages.0.progress.follow(log, SEARCH_PAUSE, &mut reader).await;
                    tracing::error!(%error, "the search index does not get on; it is opened anew");
                }
                Err(error) => {
                    tracing::error!(%error, "the search index cannot be opened; it will be tried again")
                }
            }
            messages.0.shelf.store(None);
            tokio::time::sleep(SEARCH_STORE_PAUSE).await;
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = following => {}
    }
    messages.0.shelf.store(None);
}

struct Reader<'a> {
    messages: &'a Messages,
    shelf: Arc<Shelf>,
    /// As it will be written with the next commit.
    label: Label,
    /// Up to where the log has been followed.
    cursor: Position,
    /// Changes that are not visible yet.
    changes: usize,
    /// What was removed lately.
    forgotten: BTreeSet<(u64, String)>,
}

impl<'a> Reader<'a> {
    /// Opens the index; a new one, if there is none that can be used.
    async fn load(messages: &'a Messages) -> Result<Self, SearchError> {
        let store = store_name(messages).await?;
        let (place, head, now_ms) =
            (messages.0.place.clone(), messages.log().head(), messages.0.ports.clock.now_ms());
        let (shelf, label) = blocking(move || {
            let is_good = |label: &Label| label.fits(&store, head) && !is_too_old(label, now_ms);
            Shelf::open(&place, is_good, Label::new(&store, now_ms))
        })
        .await?;
        if !label.whole {
            tracing::info!("the search index is made anew");
        }
        let shelf = Arc::new(shelf);
        messages.0.shelf.store(Some(shelf.clone()));
        let cursor = label.cursor;
        Ok(Self { messages, shelf, label, cursor, changes: 0, forgotten: BTreeSet::new() })
    }

    /// Takes in what was said in a room up to `head`.
    async fn look_at(&mut self, room: &RoomId, head: Position) -> Result<(), SearchError> {
        if self.cursor == Position::ZERO {
            self.look_at_past(room).await?;
        }
        let mut from = self.cursor;
        loop {
            let log = self.messages.log();
            let facts = log.timeline(room, (from, head), Direction::Forward, PAGE_EVENTS_MAX).await?;
            let Some((last, _)) = facts.last() else { return Ok(()) };
            from = *last;
            let is_last = facts.len() < PAGE_EVENTS_MAX;
            let id = |(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            };
            let ids: Vec<OwnedEventId> = facts.into_iter().filter_map(id).collect();
            self.take(&ids).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes in what other servers have told of the past of a room, which is not in the log.
    async fn look_at_past(&mut self, room: &RoomId) -> Result<(), SearchError> {
        let mut from = BACKFILLED.prefix(&(room.to_owned(),));
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: PAGE_EVENTS_MAX };
            let rows = self.messages.log().db().scan(&BACKFILLED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = BACKFILLED.key(last).successor();
            let ids: Vec<OwnedEventId> = rows.into_iter().map(|(_, id)| id).collect();
            self.take(&ids).await?;
        }
    }

    async fn take(&mut self, ids: &[OwnedEventId]) -> Result<(), SearchError> {
        let events = self.messages.0.history.sound_events(ids).await?;
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for event in events.into_iter().flatten() {
            if let Some(target) = event.pdu.redacts()
                && let Some(target) = self.messages.0.history.sound_event(target).await?
                && target.notes.redacted_by.is_some()
            {
                gone.push(Term::from_field_text(self.shelf.fields.id, target.pdu.event_id().as_str()));
            }
            if is_searched(&event) {
                let place = self.messages.0.history.place(&event).await?;
                new.extend(document(&self.shelf.fields, &event, place.unwrap_or(Boundary::START)));
            }
        }
        self.change(gone, new).await?;
        if self.changes >= SEARCH_COMMIT_DOCUMENTS {
            // Something may be missing before the cursor until all of this is taken in.
            self.label.whole = false;
            self.commit(self.label.clone()).await?;
        }
        Ok(())
    }

    async fn change(&mut self, gone: Vec<Term>, new: Vec<TantivyDocument>) -> Result<(), SearchError> {
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        self.changes += gone.len() + new.len();
        let shelf = self.shelf.clone();
        blocking(move || shelf.change(gone, new)).await
    }

    async fn commit(&mut self, label: Label) -> Result<(), SearchError> {
        let shelf = self.shelf.clone();
        self.changes = 0;
        blocking(move || shelf.commit(&label)).await
    }

    /// Has the words of what was removed go from the disk, now and then.
    async fn scrub(&mut self) -> Result<(), SearchError> {
        let now_ms = self.messages.0.ports.clock.now_ms();
        if now_ms < self.label.scrubbed_ms.saturating_add(SEARCH_SCRUB_EVERY_MS) {
            return Ok(());
        }
        let shelf = self.shelf.clone();
        blocking(move || shelf.scrub()).await?;
        // It is written with the next commit; should there be none before a restart, this is done once more.
        self.label.scrubbed_ms = now_ms;
        Ok(())
    }

    /// Takes in what has come since in the past of rooms. It may be there already, if the index is new.
    async fn take_late(&mut self, ids: &[OwnedEventId]) -> Result<(), SearchError> {
        for ids in ids.chunks(PAGE_EVENTS_MAX) {
            let term = |id: &OwnedEventId| Term::from_field_text(self.shelf.fields.id, id.as_str());
            self.change(ids.iter().map(term).collect(), Vec::new()).await?;
            self.take(ids).await?;
        }
        Ok(())
    }

    /// Removes what has been removed from the store, and adds what came in the past.
    async fn forget(&mut self) -> Result<(), SearchError> {
        let now_ms = self.messages.0.ports.clock.now_ms();
        // Other processes have other clocks, and commits take their time.
        let since = self.label.forgotten_ms.saturating_sub(SEARCH_FORGET_SLACK_MS);
        let mut from = FORGOTTEN_TEXTS.prefix(&(since,));
        let to = FORGOTTEN_TEXTS.prefix(&()).after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.messages.log().db().scan(&FORGOTTEN_TEXTS, scan).await?;
            let Some((last, ())) = rows.last() else { break };
            from = FORGOTTEN_TEXTS.key(last).successor();
            let fields = self.shelf.fields;
            let new = rows.into_iter().map(|(row, ())| row).filter(|row| self.forgotten.insert(row.clone()));
            let (mut gone, mut late) = (Vec::new(), Vec::new());
            for (_, what) in new {
                match what.strip_prefix(LATE) {
                    Some(id) => late.extend(OwnedEventId::try_from(id).ok()),
                    None if what.starts_with('!') => gone.push(Term::from_field_text(fields.room, &what)),
                    None => gone.push(Term::from_field_text(fields.id, &what)),
                }
            }
            self.change(gone, Vec::new()).await?;
            self.take_late(&late).await?;
        }
        self.forgotten.retain(|(at, _)| *at >= since);
        self.label.forgotten_ms = now_ms;
        Ok(())
    }
}

impl Follow for Reader<'_> {
    async fn advance(&mut self, head: Position) -> Result<(), SearchError> {
        if head > self.cursor {
            let rooms: Vec<OwnedRoomId> = touched_rooms(&self.messages.0.history, self.cursor).await?;
            for room in rooms {
                self.look_at(&room, head).await?;
            }
            self.cursor = head;
        }
        self.forget().await?;
        let is_far = head.0 >= self.label.cursor.0.saturating_add(SEARCH_CURSOR_STEP);
        if self.changes > 0 || is_far || !self.label.whole {
            self.label.cursor = head;
            self.label.whole = true;
            self.commit(self.label.clone()).await?;
        }
        self.scrub().await
    }
}

/// Whether rows of [`FORGOTTEN_TEXTS`] may have been removed before this index has seen them.
fn is_too_old(label: &Label, now_ms: u64) -> bool {
    label.forgotten_ms.saturating_add(FORGOTTEN_TEXTS_KEPT_MS / 2) < now_ms
}

/// What names the store, so that an index of another is not taken for one of this.
async fn store_name(messages: &Messages) -> Result<String, SearchError> {
    let key = Key::new(TableId::Meta, &(String::from("search store"),));
    if let Some(name) = messages.log().db().raw(&key).await? {
        return Ok(String::from_utf8_lossy(&name).into_owned());
    }
    let name = crate::types::random_string(messages.0.ports.rng.as_ref(), 24);
    let mut commit = Commit::new();
    commit.expect_raw(Expect::Absent(key.clone()));
    commit.put_raw(key.clone(), name.clone().into_bytes());
    match messages.log().commit(commit).await {
        Ok(_) => Ok(name),
        Err(CommitError::Conflict(_)) => {
            let name = messages.log().db().raw(&key).await?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&name).into_owned())
        }
        Err(error) => Err(error.into()),
    }
}

fn is_searched(event: &StoredEvent) -> bool {
    event.notes.redacted_by.is_none() && event.is_shown()
}

/// The document of an event, if it says anything that can be searched for.
fn document(fields: &Fields, event: &StoredEvent, place: Boundary) -> Option<TantivyDocument> {
    let (kind, text) = text_of(event)?;
    let mut document = TantivyDocument::new();
    document.add_text(fields.id, event.pdu.event_id());
    document.add_text(fields.room, event.pdu.room_id());
    document.add_u64(fields.room_code, room_code(event.pdu.room_id()));
    document.add_text(fields.sender, event.pdu.sender());
    document.add_u64(fields.at, place.position.0);
    document.add_u64(fields.number, place.number);
    document.add_text(fields.text(kind), &text);
    Some(document)
}
