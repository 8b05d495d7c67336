//! An event as push rules look at it: no more of it than they can afford to look at.

use std::collections::BTreeMap;

use ruma::{push::FlattenedJson, serde::Raw};
use serde_json::{Map, Value, value::to_raw_value};

use crate::{
    dag::Pdu,
    limits::{PUSH_LIST_MAX, PUSH_PATTERN_BYTES_MAX, PUSH_PROPERTIES_MAX, PUSH_VALUE_BYTES_MAX},
    store::StoreError,
};

/// An event as the rules look at it.
pub(super) struct Seen {
    /// Its properties by their paths.
    pub(super) flat: FlattenedJson,
    /// The texts among them in lower case, which patterns are matched with.
    lower: BTreeMap<String, String>,
}

impl Seen {
    /// As `pdu` is seen.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(super) fn new(pdu: &Pdu) -> Result<Self, StoreError> {
        let event_type = pdu.event_type().to_string();
        let named = [
            ("event_id", Some(pdu.event_id().as_str())),
            ("room_id", Some(pdu.room_id().as_str())),
            ("sender", Some(pdu.sender().as_str())),
            ("state_key", pdu.state_key()),
            ("type", Some(&*event_type)),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?))));
        let content = serde_json::from_str(pdu.content().get()).unwrap_or_default();
        Self::of(named.chain([("content", content)]))
    }

    /// Of the fields of an event; of those that come last something may be left out.
    pub(super) fn of<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Result<Self, StoreError> {
        let mut cutter = Cutter { left: PUSH_PROPERTIES_MAX, lower: BTreeMap::new() };
        let mut event = Map::new();
        for (name, value) in fields {
            let value = cutter.cut(value, name);
            event.extend(value.map(|value| (name.to_owned(), value)));
        }
        let event = Raw::<()>::from_json(to_raw_value(&event).map_err(StoreError::engine)?);
        Ok(Self { flat: FlattenedJson::from_raw(&event), lower: cutter.lower })
    }

    /// The text of a property, in lower case.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.lower.get(path).map(String::as_str)
    }
}

struct Cutter {
    /// How many more properties are kept.
    left: usize,
    lower: BTreeMap<String, String>,
}

impl Cutter {
    /// What is kept of the value at `path`.
    fn cut(&mut self, value: Value, path: &str) -> Option<Value> {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let mut kept = Map::new();
                for (name, value) in fields {
                    // No rule can name a longer one.
                    if path.len() + name.len() >= PUSH_PATTERN_BYTES_MAX {
                        continue;
                    }
                    let inner = format!("{path}.{}", name.replace('\\', r"\\").replace('.', r"\."));
                    let value = self.cut(value, &inner);
                    kept.extend(value.map(|value| (name, value)));
                }
                (!kept.is_empty()).then_some(Value::Object(kept))
            }
            value => {
                self.left = self.left.checked_sub(1)?;
                Some(self.cut_leaf(value, path))
            }
        }
    }

    fn cut_leaf(&mut self, value: Value, path: &str) -> Value {
        match value {
            Value::String(mut text) => {
                text.truncate(text.floor_char_boundary(PUSH_VALUE_BYTES_MAX));
                self.lower.insert(path.to_owned(), text.to_lowercase());
                Value::String(text)
            }
            Value::Array(mut elements) => {
                elements.truncate(PUSH_LIST_MAX);
                Value::Array(elements)
            }
            other => other,
        }
    }
}
