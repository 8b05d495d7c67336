//! Messages by their words.
//!
//! An index by tantivy, made from the log by a reader (`reader`) and, if it is lost or damaged, made anew from it.
//! Each commit of the index says up to where the log is in it (`shelf`). Whatever the index says, an event is shown
//! only as it is in the store now, and only to those who may see it there. What is encrypted is not in it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

mod ask;
mod reader;
mod shelf;
mod text;

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use ruma::{OwnedEventId, RoomId};
use tantivy::{Searcher, query::Query, schema::Field};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use ask::{Ask, Key, OrderBy};
pub use shelf::Place;

use super::{SearchError, follow::Progress};
use crate::{
    history::{History, Related, StoredEvent, Viewer},
    limits::{SEARCH_CHUNK, SEARCH_COUNTED_MAX, SEARCH_LOOKED_AT_MAX, SEARCH_RELATED_LOOK_UPS_MAX},
    log::Log,
    types::Ports,
    upkeep,
};
use ask::After;
use shelf::{Hit, Shelf, hits, ids, room_code};

/// Finds messages. Cheap to clone.
#[derive(Clone)]
pub struct Messages(Arc<Inner>);

struct Inner {
    history: History,
    ports: Ports,
    place: Place,
    /// The open index.
    shelf: ArcSwapOption<Shelf>,
    progress: Progress,
}

/// Whether an event is wanted.
type Sieve<'a> = &'a (dyn Fn(&StoredEvent) -> bool + Send + Sync);

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Messages")
    }
}

/// An event that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// How well it matches; more is better.
    pub rank: f32,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// A page of it, in the order asked for.
    pub page: Vec<Found>,
    /// How much there is in all, as far as that was counted.
    pub count: usize,
    /// Where the next page begins, if there was anything on this one: only an empty one is the end, as clients know it
    /// from Synapse.
    pub next: Option<String>,
    /// What clients may mark in the texts.
    pub highlights: Vec<String>,
}

impl Messages {
    /// Begins to follow the log on `tasks`, until `stopping`.
    #[must_use]
    pub fn start(
        (history, ports): (History, Ports),
        place: Place,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let inner =
            Inner { history, ports, place, shelf: ArcSwapOption::empty(), progress: Progress::default() };
        let this = Self(Arc::new(inner));
        let (follower, until) = (this.clone(), stopping.clone());
        let following = move || reader::run(follower.clone(), until.clone());
        tasks.spawn(upkeep::keep("the search index", stopping, following));
        this
    }

    fn log(&self) -> &Log {
        self.0.history.log()
    }

    /// The events that `viewer` may see, that have what `ask` asks for in them, and that are `wanted`.
    ///
    /// # Errors
    /// When the index or the store fails, or the index is not open yet.
    pub async fn find(
        &self,
        viewer: &mut Viewer,
        ask: &Ask,
        wanted: Sieve<'_>,
    ) -> Result<Findings, SearchError> {
        let after = After::read(ask)?;
        self.0.progress.catch_up(self.log()).await;
        let shelf = self.0.shelf.load_full().ok_or(SearchError::NotReady)?;
        let Some(query) = ask.query(&shelf.fields) else { return Ok(Findings::default()) };
        let mut hits = Hits::find(&shelf, query, ask).await?;
        let rooms: HashSet<&RoomId> = ask.rooms.iter().map(|room| &**room).collect();
        let wanted = |event: &StoredEvent| rooms.contains(event.pdu.room_id()) && wanted(event);
        let (mut findings, mut look_ups) = (Findings::default(), SEARCH_RELATED_LOOK_UPS_MAX);
        while let Some(chunk) = hits.next().await? {
            let related = (ask.related.as_ref(), &mut look_ups);
            for (hit, event) in self.visible(viewer, chunk, (&wanted, related)).await? {
                findings.count += 1;
                if findings.page.len() < ask.limit && after.is_before(hit.place, findings.count) {
                    findings.next = Some(After::write(ask, hit.place, findings.count));
                    findings.page.push(Found { event, rank: hit.rank });
                }
            }
            let is_enough = findings.count >= SEARCH_COUNTED_MAX && findings.page.len() >= ask.limit;
            if is_enough || look_ups == 0 {
                break;
            }
        }
        let texts = findings.page.iter().filter_map(|found| ask::text_of(&found.event));
        let texts: Vec<String> = texts.map(|(_, text)| text).collect();
        findings.highlights = text::highlights(&ask.term, texts.iter().map(String::as_str));
        Ok(findings)
    }

    /// Those of the hits that may be shown, as the store has them; of what relates to them so much is looked up.
    async fn visible(
        &self,
        viewer: &mut Viewer,
        hits: Vec<(Hit, String)>,
        (wanted, (related, look_ups)): (Sieve<'_>, (Option<&Related>, &mut usize)),
    ) -> Result<Vec<(Hit, Arc<StoredEvent>)>, SearchError> {
        let (mut places, mut names) = (Vec::new(), Vec::new());
        for (hit, id) in hits {
            if let Ok(id) = OwnedEventId::try_from(id) {
                places.push(hit);
                names.push(id);
            }
        }
        let events = self.0.history.sound_events(&names).await?;
        let mut seen = Vec::new();
        for (hit, event) in places.into_iter().zip(events) {
            let Some(event) = event else { continue };
            let is_gone = event.notes.redacted_by.is_some() || viewer.is_kept_from(&event);
            if is_gone || !wanted(&event) || !viewer.sees(&event).await? {
                continue;
            }
            let is_met = match related {
                Some(_) if *look_ups == 0 => break,
                Some(related) => {
                    *look_ups -= 1;
                    viewer.is_related(event.pdu.event_id(), related).await?
                }
                None => true,
            };
            if is_met {
                seen.push((hit, event));
            }
        }
        Ok(seen)
    }
}

/// What an index has of what somebody searches for, a chunk after another with the event ids.
struct Hits {
    searcher: Searcher,
    id: Field,
    /// The first chunk, which is read together with all.
    first: Option<Vec<(Hit, String)>>,
    rest: VecDeque<Hit>,
}

impl Hits {
    async fn find(shelf: &Shelf, query: Box<dyn Query>, ask: &Ask) -> Result<Self, SearchError> {
        let rooms = ask.rooms.iter().map(|room| room_code(room)).collect();
        let newest = ask.order_by == OrderBy::Recent;
        let (searcher, id) = (shelf.searcher(), shelf.fields.id);
        blocking(move || {
            let all = hits(&searcher, query.as_ref(), rooms, newest, SEARCH_LOOKED_AT_MAX)?;
            let mut rest = VecDeque::from(all);
            let first = rest.drain(..rest.len().min(SEARCH_CHUNK)).collect();
            let first = Some(ids(&searcher, id, first)?);
            Ok(Self { searcher, id, first, rest })
        })
        .await
    }

    async fn next(&mut self) -> Result<Option<Vec<(Hit, String)>>, SearchError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let chunk: Vec<Hit> = self.rest.drain(..self.rest.len().min(SEARCH_CHUNK)).collect();
        if chunk.is_empty() {
            return Ok(None);
        }
        let (searcher, id) = (self.searcher.clone(), self.id);
        blocking(move || ids(&searcher, id, chunk)).await.map(Some)
    }
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    tokio::task::spawn_blocking(work).await.map_err(crate::store::StoreError::engine)?
}
