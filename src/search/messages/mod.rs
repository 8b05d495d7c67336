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

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use ruma::OwnedEventId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use ask::{Ask, Key, OrderBy};
pub use shelf::Place;

use super::{SearchError, follow::Progress};
use crate::{
    history::{History, Related, StoredEvent, Viewer},
    limits::{SEARCH_CHUNK, SEARCH_COUNTED_MAX, SEARCH_LOOKED_AT_MAX, SEARCH_RELATED_LOOK_UPS_MAX},
    log::Log,
    types::Ports,
};
use ask::After;
use shelf::{Hit, Shelf, hits, ids};

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
    /// Where the next page begins, if there was anything on this one.
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
        tasks.spawn(reader::run(this.clone(), stopping));
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
        let newest = ask.order_by == OrderBy::Recent;
        let searcher = shelf.searcher();
        let looking = searcher.clone();
        let all = blocking(move || hits(&looking, query.as_ref(), newest, SEARCH_LOOKED_AT_MAX)).await?;
        let (mut findings, mut look_ups) = (Findings::default(), SEARCH_RELATED_LOOK_UPS_MAX);
        for chunk in all.chunks(SEARCH_CHUNK) {
            let (chunk, looking, id) = (chunk.to_vec(), searcher.clone(), shelf.fields.id);
            let read: Vec<(Hit, String)> =
                blocking(move || Ok(chunk.iter().copied().zip(ids(&looking, id, &chunk)?).collect())).await?;
            let related = (ask.related.as_ref(), &mut look_ups);
            for (hit, event) in self.visible(viewer, read, (wanted, related)).await? {
                findings.count += 1;
                if findings.page.len() < ask.limit && after.is_before(hit.at, findings.count) {
                    findings.next = Some(After::write(ask, hit.at, findings.count));
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
        let events = self.0.history.events(&names).await?;
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

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    tokio::task::spawn_blocking(work).await.map_err(crate::store::StoreError::engine)?
}
