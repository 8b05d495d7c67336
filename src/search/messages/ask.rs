//! What somebody searches for, as a query of the index.

use std::ops::Bound;

use ruma::{OwnedRoomId, OwnedUserId, events::TimelineEventType};
use serde_json::{Map, Value};
use tantivy::{
    Term,
    query::{BooleanQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery, TermSetQuery},
    schema::{Field, IndexRecordOption},
};

use super::{
    SearchError,
    shelf::Fields,
    text::{Asked, asked},
};
use crate::history::{Related, StoredEvent};

/// In which order things are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// The best first.
    Rank,
    /// The newest first.
    Recent,
}

/// A text of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `content.body`, of a message.
    Body,
    /// `content.name`, of the name of a room.
    Name,
    /// `content.topic`, of the topic of a room.
    Topic,
}

/// What somebody searches for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The words.
    pub term: String,
    /// Which texts are searched.
    pub keys: Vec<Key>,
    /// The rooms that are searched.
    pub rooms: Vec<OwnedRoomId>,
    /// Whose events are searched, if not everybody's.
    pub senders: Option<Vec<OwnedUserId>>,
    /// What has to relate to them, if that is asked for.
    pub related: Option<Related>,
    /// In which order.
    pub order_by: OrderBy,
    /// How many at most.
    pub limit: usize,
    /// [`super::Findings::next`] of the page before.
    pub after: Option<String>,
}

impl Ask {
    /// The query, in whatever room; nothing when there is nothing to search for.
    pub(super) fn query(&self, fields: &Fields) -> Option<Box<dyn Query>> {
        let asked = asked(&self.term);
        let texts: Vec<Field> = self.keys.iter().map(|key| fields.text(*key)).collect();
        if asked.is_empty() || texts.is_empty() || self.rooms.is_empty() {
            return None;
        }
        let mut all: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for asked in &asked {
            let mut anywhere: Vec<_> = texts.iter().map(|field| in_text(*field, asked)).collect();
            let found: Box<dyn Query> = match anywhere.len() {
                1 => anywhere.remove(0),
                _ => Box::new(BooleanQuery::union(anywhere)),
            };
            all.push((Occur::Must, found));
        }
        if let Some(senders) = &self.senders {
            let senders = senders.iter().map(|user| Term::from_field_text(fields.sender, user.as_str()));
            all.push((Occur::Must, Box::new(TermSetQuery::new(senders))));
        }
        Some(Box::new(BooleanQuery::new(all)))
    }
}

fn in_text(field: Field, asked: &Asked) -> Box<dyn Query> {
    match asked {
        Asked::Term(term) => {
            let term = Term::from_field_text(field, term);
            Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
        }
        Asked::Beginning(beginning) => {
            let mut end = beginning.clone();
            end.push(char::MAX);
            let from = Bound::Included(Term::from_field_text(field, beginning));
            Box::new(RangeQuery::new(from, Bound::Excluded(Term::from_field_text(field, &end))))
        }
        Asked::Phrase(terms) => {
            let terms = terms.iter().map(|(place, term)| (*place, Term::from_field_text(field, term)));
            Box::new(PhraseQuery::new_with_offset(terms.collect()))
        }
    }
}

/// Where a page begins. By time it is a place in the log or in what was filled in behind one, so that nothing is found
/// twice when something is said meanwhile; by rank it is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// At the beginning.
    Nothing,
    /// Behind this place.
    Place((u64, u64)),
    /// Behind so many.
    Number(usize),
}

impl After {
    pub(super) fn read(ask: &Ask) -> Result<Self, SearchError> {
        let Some(token) = &ask.after else { return Ok(Self::Nothing) };
        let read = match ask.order_by {
            OrderBy::Recent => token.strip_prefix('p').and_then(read_place).map(Self::Place),
            OrderBy::Rank => {
                token.strip_prefix('n').and_then(|text| digits(text)?.parse().ok()).map(Self::Number)
            }
        };
        read.ok_or(SearchError::BadToken)
    }

    /// Whether it comes before what is at `place` and is the `number`th.
    pub(super) fn is_before(self, place: (u64, u64), number: usize) -> bool {
        match self {
            Self::Nothing => true,
            Self::Place(after) => place < after,
            Self::Number(after) => number > after,
        }
    }

    pub(super) fn write(ask: &Ask, (at, within): (u64, u64), number: usize) -> String {
        match ask.order_by {
            OrderBy::Recent if within == 0 => format!("p{at}"),
            OrderBy::Recent => format!("p{at}_{within}"),
            OrderBy::Rank => format!("n{number}"),
        }
    }
}

/// A number that has no sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

fn read_place(text: &str) -> Option<(u64, u64)> {
    let (at, within) = text.split_once('_').unwrap_or((text, "0"));
    Some((digits(at)?.parse().ok()?, digits(within)?.parse().ok()?))
}

/// What a topic says: plainly, and in the block that tells it in several ways, if that is another text.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mroomtopic>
fn topic_of(content: &Map<String, Value>) -> Option<String> {
    let plain = content.get("topic").and_then(Value::as_str).unwrap_or_default();
    let ways = content.get("m.topic").and_then(|block| block.get("m.text")?.as_array());
    let is_plain = |way: &&Value| way.get("mimetype").is_none_or(|kind| kind == "text/plain");
    let told = ways.and_then(|ways| ways.iter().find(is_plain)?.get("body")?.as_str()).unwrap_or_default();
    let texts: Vec<&str> = [plain, told].into_iter().filter(|text| !text.is_empty()).collect();
    match texts[..] {
        [] => None,
        [one, other] if one == other => Some(one.to_owned()),
        _ => Some(texts.join("\n")),
    }
}

/// The text of an event that can be searched for.
pub(super) fn text_of(event: &StoredEvent) -> Option<(Key, String)> {
    let (key, name) = match event.pdu.event_type() {
        TimelineEventType::RoomMessage => (Key::Body, "body"),
        TimelineEventType::RoomName => (Key::Name, "name"),
        TimelineEventType::RoomTopic => (Key::Topic, "topic"),
        _ => return None,
    };
    let content: Map<String, Value> = event.pdu.content_as().ok()?;
    // Of an edit, what it says anew; the fallback repeats it with a mark.
    if key == Key::Topic {
        return topic_of(&content).map(|topic| (key, topic));
    }
    let newer = content.get("m.new_content").and_then(|newer| newer.get(name)).and_then(Value::as_str);
    let text = newer.or_else(|| content.get(name).and_then(Value::as_str))?;
    (!text.is_empty()).then(|| (key, text.to_owned()))
}
