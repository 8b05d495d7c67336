//! The index on disk, and what it says of itself.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use ruma::RoomId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tantivy::{
    DocAddress, Index, IndexReader, IndexSettings, IndexWriter, Order, ReloadPolicy, Searcher,
    TantivyDocument, Term,
    collector::{FilterCollector, TopDocs, sort_key::SortByStaticFastValue},
    directory::MmapDirectory,
    indexer::IndexWriterOptions,
    query::Query,
    schema::{FAST, Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value},
    tokenizer::TextAnalyzer,
};

use super::{SearchError, ask::Key, text::Terms};
use crate::{limits::SEARCH_WRITER_BYTES, types::Position};

/// Rises when documents are made otherwise; then the index is made anew.
const VERSION: u32 = 4;
/// The name of the tokenizer in the schema.
const TOKENIZER: &str = "lockstep";
/// The fields that are kept in columns.
const AT: &str = "at";
const NUMBER: &str = "number";
const ROOM_CODE: &str = "room_code";

/// Where the index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this folder, which is nobody else's.
    Folder(PathBuf),
    /// In memory.
    Memory,
}

/// The fields of a document.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) room: Field,
    /// [`room_code`].
    pub(super) room_code: Field,
    pub(super) sender: Field,
    /// Its place in the log, or the one behind which it was filled in,
    pub(super) at: Field,
    /// and where it is there, if it was filled in.
    pub(super) number: Field,
    pub(super) body: Field,
    pub(super) name: Field,
    pub(super) topic: Field,
}

impl Fields {
    /// The field of a text.
    pub(super) fn text(&self, key: Key) -> Field {
        match key {
            Key::Body => self.body,
            Key::Name => self.name,
            Key::Topic => self.topic,
        }
    }
}

/// What the last commit of an index says: of which store it is, and how much of the log is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) version: u32,
    /// Names the store.
    pub(super) store: String,
    /// Up to where the log is in it.
    pub(super) cursor: Position,
    /// Nothing before the cursor is missing.
    pub(super) whole: bool,
    /// Up to when it has been told what to forget, in milliseconds since 1970.
    pub(super) forgotten_ms: u64,
    /// When words of removed documents last went from the disk, in milliseconds since 1970.
    #[serde(default)]
    pub(super) scrubbed_ms: u64,
}

impl Label {
    pub(super) fn new(store: &str, now_ms: u64) -> Self {
        Self {
            version: VERSION,
            store: store.to_owned(),
            cursor: Position::ZERO,
            whole: false,
            forgotten_ms: now_ms,
            scrubbed_ms: now_ms,
        }
    }

    /// Whether an index with this label can be used for a store whose log ends at `head`.
    pub(super) fn fits(&self, store: &str, head: Position) -> bool {
        self.version == VERSION && self.whole && self.store == store && self.cursor <= head
    }
}

/// An open index.
pub(super) struct Shelf {
    pub(super) fields: Fields,
    index: Index,
    reader: IndexReader,
    /// Opened when there is something to write: it has threads, and memory for them.
    writer: Mutex<Option<IndexWriter>>,
}

/// One document that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) address: DocAddress,
    /// How well it matches, when that was asked for.
    pub(super) rank: f32,
    /// Its place in the room's past, when that was asked for. No two events have the same.
    pub(super) place: (u64, u64),
}

impl Shelf {
    /// Opens the index if there is one that `is_good`; makes an empty one otherwise. Blocks.
    pub(super) fn open(
        place: &Place,
        is_good: impl Fn(&Label) -> bool,
        empty: Label,
    ) -> Result<(Self, Label), SearchError> {
        let known = match place {
            Place::Folder(folder) => open_folder(folder).ok(),
            Place::Memory => None,
        };
        let known = known.filter(|(_, label)| is_good(label));
        let (index, label) = match (known, place) {
            (Some(known), _) => known,
            (None, Place::Memory) => {
                let index = Index::builder().schema(schema()).create_in_ram()?;
                (index, empty)
            }
            (None, Place::Folder(folder)) => {
                match std::fs::remove_dir_all(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => std::fs::create_dir_all(folder)?,
                }
                let directory = MmapDirectory::open(folder).map_err(tantivy::TantivyError::from)?;
                (Index::create(directory, schema(), IndexSettings::default())?, empty)
            }
        };
        Ok((Self::of(index)?, label))
    }

    fn of(index: Index) -> Result<Self, SearchError> {
        index.tokenizers().register(TOKENIZER, TextAnalyzer::from(Terms));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let schema = index.schema();
        let field = |name| schema.get_field(name);
        let fields = Fields {
            id: field("id")?,
            room: field("room")?,
            room_code: field(ROOM_CODE)?,
            sender: field("sender")?,
            at: field(AT)?,
            number: field(NUMBER)?,
            body: field("body")?,
            name: field("name")?,
            topic: field("topic")?,
        };
        Ok(Self { fields, index, reader, writer: Mutex::new(None) })
    }

    /// Adds documents, and removes those with one of these terms. Blocks.
    pub(super) fn change(&self, gone: Vec<Term>, new: Vec<TantivyDocument>) -> Result<(), SearchError> {
        let mut writer = self.writer.lock();
        let writer = self.writing(&mut writer)?;
        for document in new {
            writer.add_document(document)?;
        }
        for term in gone {
            writer.delete_term(term);
        }
        Ok(())
    }

    /// Makes what was changed durable and visible, with `label`. Blocks.
    pub(super) fn commit(&self, label: &Label) -> Result<(), SearchError> {
        let label = serde_json::to_string(label).map_err(crate::store::StoreError::engine)?;
        let mut held = self.writer.lock();
        let writer = self.writing(&mut held)?;
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&label);
        commit.commit()?;
        drop(held);
        Ok(self.reader.reload()?)
    }

    /// Has the words of removed documents go from the disk: they stay with their segment until it is written anew.
    /// Blocks.
    pub(super) fn scrub(&self) -> Result<(), SearchError> {
        let mut held = self.writer.lock();
        let writer = self.writing(&mut held)?;
        let all = self.index.searchable_segment_metas()?;
        for segment in all.iter().filter(|segment| segment.has_deletes()) {
            // One that is being merged with others anyway cannot be taken.
            if let Err(error) = writer.merge(&[segment.id()]).wait() {
                tracing::debug!(%error, "a segment of the search index is not written anew");
            }
        }
        writer.garbage_collect_files().wait()?;
        drop(held);
        Ok(self.reader.reload()?)
    }

    fn writing<'w>(&self, writer: &'w mut Option<IndexWriter>) -> Result<&'w mut IndexWriter, SearchError> {
        match writer {
            Some(writer) => Ok(writer),
            None => {
                let options = IndexWriterOptions::builder()
                    .num_worker_threads(1)
                    .num_merge_threads(1)
                    .memory_budget_per_thread(SEARCH_WRITER_BYTES)
                    .build();
                Ok(writer.insert(self.index.writer_with_options(options)?))
            }
        }
    }

    /// What can be searched now.
    pub(super) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }
}

/// A number that stands for a room where many are compared. Two rooms may have the same, which is looked at afterwards.
pub(super) fn room_code(room: &RoomId) -> u64 {
    let hash = Sha256::digest(room.as_bytes());
    hash.iter().take(8).fold(0, |code, byte| code << 8 | u64::from(*byte))
}

/// The best `limit` documents of the rooms with these codes, or the newest. Blocks.
///
/// Only of what has the words the room is looked at: the documents of all of somebody's rooms are many more.
pub(super) fn hits(
    searcher: &Searcher,
    query: &dyn Query,
    rooms: HashSet<u64>,
    newest: bool,
    limit: usize,
) -> Result<Vec<Hit>, SearchError> {
    let rooms = Arc::new(rooms);
    let is_in = move |code: u64| rooms.contains(&code);
    let top = TopDocs::with_limit(limit.max(1));
    Ok(match newest {
        true => {
            let newest = |name: &str| (SortByStaticFastValue::<u64>::for_field(name), Order::Desc);
            let top = top.order_by((newest(AT), newest(NUMBER)));
            let found = searcher.search(query, &FilterCollector::new(ROOM_CODE.into(), is_in, top))?;
            let hit = |((at, number), address): ((Option<u64>, Option<u64>), _)| {
                let place = (at.unwrap_or_default(), number.unwrap_or_default());
                Hit { address, rank: 1.0, place }
            };
            found.into_iter().map(hit).collect()
        }
        false => {
            let top = top.order_by_score();
            let found = searcher.search(query, &FilterCollector::new(ROOM_CODE.into(), is_in, top))?;
            found.into_iter().map(|(rank, address)| Hit { address, rank, place: (0, 0) }).collect()
        }
    })
}

/// Documents with their event ids. Blocks.
pub(super) fn ids(searcher: &Searcher, id: Field, hits: Vec<Hit>) -> Result<Vec<(Hit, String)>, SearchError> {
    let read = |hit: Hit| {
        let document: TantivyDocument = searcher.doc(hit.address)?;
        let id = document.get_first(id).and_then(|value| value.as_str()).unwrap_or_default();
        Ok((hit, id.to_owned()))
    };
    hits.into_iter().map(read).collect()
}

fn open_folder(folder: &PathBuf) -> Result<(Index, Label), SearchError> {
    let directory = MmapDirectory::open(folder).map_err(tantivy::TantivyError::from)?;
    let index = Index::open(directory)?;
    let payload = index.load_metas()?.payload.unwrap_or_default();
    let label: Label = serde_json::from_str(&payload).map_err(crate::store::StoreError::engine)?;
    match index.schema() == schema() && index.validate_checksum()?.is_empty() {
        true => Ok((index, label)),
        false => Err(SearchError::Damaged),
    }
}

fn schema() -> Schema {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(indexing);
    schema.add_text_field("id", STRING | STORED);
    schema.add_text_field("room", STRING);
    schema.add_text_field("sender", STRING);
    schema.add_u64_field(ROOM_CODE, FAST);
    schema.add_u64_field(AT, FAST);
    schema.add_u64_field(NUMBER, FAST);
    for name in ["body", "name", "topic"] {
        schema.add_text_field(name, text.clone());
    }
    schema.build()
}

#[cfg(test)]
mod tests {
    use tantivy::{TantivyDocument, Term};

    use super::{Label, Place, Shelf};

    #[test]
    fn removed_words_go_from_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("search"));
        let (shelf, label) = Shelf::open(&place, |_| true, Label::new("s", 0)).unwrap();
        let document = |id: &str, body: &str| {
            let mut document = TantivyDocument::new();
            document.add_text(shelf.fields.id, id);
            document.add_text(shelf.fields.body, body);
            document
        };
        let word = |word: &str| Term::from_field_text(shelf.fields.body, word);
        let known = |name: &str| shelf.searcher().doc_freq(&word(name)).unwrap();
        shelf.change(Vec::new(), vec![document("$a", "canary"), document("$b", "sparrow")]).unwrap();
        shelf.commit(&label).unwrap();
        let gone = Term::from_field_text(shelf.fields.id, "$a");
        shelf.change(vec![gone], Vec::new()).unwrap();
        shelf.commit(&label).unwrap();
        assert_eq!((known("canary"), known("sparrow")), (1, 1), "the words are still there");
        shelf.scrub().unwrap();
        assert_eq!((known("canary"), known("sparrow")), (0, 1));
        drop(shelf);
        let (shelf, found) = Shelf::open(&place, |_| true, Label::default()).unwrap();
        assert_eq!(found, label, "it still knows what it is");
        assert_eq!(shelf.searcher().num_docs(), 1);
    }
}
