//! What an event looks like to a client.
//!
//! The text is put together from raw pieces of the PDU, because sync does this for every event that
//! every device receives.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use ruma::{EventId, OwnedEventId, events::TimelineEventType};
use serde_json::value::RawValue;

use super::{StoredEvent, Viewer, erasure::hidden, tame};
use crate::{
    dag::{Pdu, StateKey},
    store::StoreError,
    types::Membership,
};

/// Which form of client event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Without the room's id, as in `/sync`, where it is known from the place.
    Sync,
    /// With the room's id, as everywhere else.
    Full,
}

/// How the ids of delayed events begin. One that was sent has such an id as its transaction's, of no device.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
pub const DELAY_ID: &str = "lkd_";

/// Aggregated relations (`m.relations`) by the event that they relate to.
pub type Bundles = HashMap<OwnedEventId, Box<RawValue>>;

/// What an event's `unsigned` is made of.
#[derive(Default)]
struct Unsigned<'a> {
    age: u64,
    transaction_id: Option<&'a str>,
    delay_id: Option<&'a str>,
    replaced: Option<Replaced<'a>>,
    redacted_because: Option<String>,
    membership: Option<Membership>,
    relations: Option<&'a RawValue>,
}

/// What stood in a state event's place before.
struct Replaced<'a> {
    event: &'a StoredEvent,
    /// Whether the client "has permission to see the previous event": then it is told what that said, and in any case
    /// which one it was.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>
    is_seen: bool,
}

impl Viewer {
    /// Events as this user's client gets them, in the order of `events`. Whether the user may see them
    /// is not asked again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn render(
        &mut self,
        events: &[Arc<StoredEvent>],
        shape: Shape,
        bundles: &Bundles,
    ) -> Result<Vec<Box<RawValue>>, StoreError> {
        let events = &*self.without_erased(events)?;
        let replaced = self.replaced(events).await?;
        let named = events.iter().filter_map(|event| event.notes.redacted_by.clone());
        let named: Vec<OwnedEventId> = replaced.iter().flatten().cloned().chain(named).collect();
        let known = match named.is_empty() {
            true => HashMap::new(),
            false => {
                let known: Vec<_> = self.history.sound_events(&named).await?.into_iter().flatten().collect();
                let known = self.without_erased(&known)?.into_owned();
                known.into_iter().map(|event| (event.pdu.event_id().to_owned(), event)).collect()
            }
        };
        let mut rendered = Vec::with_capacity(events.len());
        for (event, replaced) in events.iter().zip(replaced) {
            let redaction = match event.notes.redacted_by.as_ref().and_then(|id| known.get(id)) {
                // That it was redacted shows; why, only to those who may see the redaction.
                Some(redaction) if !self.sees(redaction).await? => Some(hidden(redaction)?),
                redaction => redaction.cloned(),
            };
            let replaced = match replaced.as_ref().and_then(|id| known.get(id)) {
                Some(other) => {
                    Some(Replaced { event: other, is_seen: self.sees_replaced(event, other).await? })
                }
                None => None,
            };
            let unsigned = Unsigned {
                age: self.age(event),
                transaction_id: self.transaction_of(event),
                delay_id: self.delay_of(event),
                replaced,
                redacted_because: redaction.map(|redaction| self.redacted_because(&redaction, shape)),
                membership: Some(self.membership_at(event).await?),
                relations: bundles.get(event.pdu.event_id()).map(|bundle| &**bundle),
            };
            rendered.push(finish(client_text(&event.pdu, shape, &unsigned))?);
        }
        Ok(rendered)
    }

    /// One event; see [`Self::render`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn render_one(
        &mut self,
        event: &Arc<StoredEvent>,
        shape: Shape,
    ) -> Result<Box<RawValue>, StoreError> {
        let rendered = self.render(std::slice::from_ref(event), shape, &Bundles::new()).await?;
        rendered.into_iter().next().ok_or_else(|| StoreError::Corrupt(String::from("nothing rendered")))
    }

    /// For each state event, what stood in its place before.
    async fn replaced(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Option<OwnedEventId>>, StoreError> {
        let mut replaced = Vec::with_capacity(events.len());
        for event in events {
            let found = match (event.pdu.state_position(), event.states) {
                (Some(position), Some(states)) => {
                    let StateKey { event_type, state_key } = position.into();
                    self.history.state_entry(states.before, event_type, &state_key).await?
                }
                _ => None,
            };
            replaced.push(found.map(|value| value.event_id));
        }
        Ok(replaced)
    }

    fn age(&self, event: &StoredEvent) -> u64 {
        self.now_ms.saturating_sub(event.pdu.origin_server_ts().0.into())
    }

    /// The transaction id, for nobody but the device that used it.
    fn transaction_of<'a>(&self, event: &'a StoredEvent) -> Option<&'a str> {
        let (device, txn) = event.notes.txn.as_ref()?;
        let is_sender = self.device.as_ref().is_some_and(|ours| ours == device.as_str());
        (is_sender && event.pdu.sender() == self.user && delay(event).is_none()).then_some(txn.as_str())
    }

    /// The id by which a delayed event was known before it was sent, for nobody but its sender.
    fn delay_of<'a>(&self, event: &'a StoredEvent) -> Option<&'a str> {
        delay(event).filter(|_| event.pdu.sender() == self.user)
    }

    fn redacted_because(&self, redaction: &StoredEvent, shape: Shape) -> String {
        let unsigned = Unsigned { age: self.age(redaction), ..Unsigned::default() };
        client_text(&redaction.pdu, shape, &unsigned)
    }
}

/// A state event as strangers get it: content, sender, state key and type.
///
/// # Errors
/// Never, unless memory is damaged.
pub fn stripped(pdu: &Pdu) -> Result<Box<RawValue>, StoreError> {
    let mut out = String::with_capacity(pdu.content().get().len() + 200);
    out.push_str(r#"{"content":"#);
    out.push_str(&tame(pdu.event_type(), pdu.content().get()));
    out.push_str(r#","sender":"#);
    string(&mut out, pdu.sender().as_str());
    out.push_str(r#","state_key":"#);
    string(&mut out, pdu.state_key().unwrap_or_default());
    out.push_str(r#","type":"#);
    string(&mut out, &pdu.event_type().to_string());
    if *pdu.event_type() == TimelineEventType::RoomCreate {
        // Of this one the specification wants all: the id of a room may follow from it.
        out.push_str(r#","event_id":"#);
        string(&mut out, pdu.event_id().as_str());
        number(&mut out, r#","origin_server_ts":"#, pdu.origin_server_ts().0.into());
        out.push_str(r#","room_id":"#);
        string(&mut out, pdu.room_id().as_str());
    }
    out.push('}');
    finish(out)
}

fn finish(text: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(text).map_err(|error| StoreError::Corrupt(format!("a rendered event: {error}")))
}

fn client_text(pdu: &Pdu, shape: Shape, unsigned: &Unsigned<'_>) -> String {
    let mut out = String::with_capacity(pdu.content().get().len() + 512);
    let redacts = pdu.redacts();
    out.push_str(r#"{"content":"#);
    content(&mut out, pdu, redacts);
    out.push_str(r#","event_id":"#);
    string(&mut out, pdu.event_id().as_str());
    number(&mut out, r#","origin_server_ts":"#, pdu.origin_server_ts().0.into());
    // Older clients look for it here, newer ones in the content, whatever the room version.
    if let Some(redacts) = redacts {
        out.push_str(r#","redacts":"#);
        string(&mut out, redacts.as_str());
    }
    if shape == Shape::Full {
        out.push_str(r#","room_id":"#);
        string(&mut out, pdu.room_id().as_str());
    }
    out.push_str(r#","sender":"#);
    string(&mut out, pdu.sender().as_str());
    if let Some(state_key) = pdu.state_key() {
        out.push_str(r#","state_key":"#);
        string(&mut out, state_key);
    }
    out.push_str(r#","type":"#);
    string(&mut out, &pdu.event_type().to_string());
    let sticky_ms = pdu.sticky_ms();
    if let Some(sticky_ms) = sticky_ms {
        number(&mut out, r#","msc4354_sticky":{"duration_ms":"#, sticky_ms);
        out.push('}');
    }
    let left_ms = sticky_ms.map(|sticky_ms| sticky_ms.saturating_sub(unsigned.age));
    write_unsigned(&mut out, (unsigned, left_ms));
    out.push('}');
    out
}

fn content(out: &mut String, pdu: &Pdu, redacts: Option<&EventId>) {
    let text = tame(pdu.event_type(), pdu.content().get());
    let lacks_redacts =
        *pdu.event_type() == TimelineEventType::RoomRedaction && !text.contains(r#""redacts""#);
    match (redacts, text.strip_prefix('{')) {
        (Some(redacts), Some(rest)) if lacks_redacts => {
            out.push_str(r#"{"redacts":"#);
            string(out, redacts.as_str());
            if rest.trim_start() != "}" {
                out.push(',');
            }
            out.push_str(rest);
        }
        _ => out.push_str(&text),
    }
}

fn write_unsigned(out: &mut String, (unsigned, sticky_left_ms): (&Unsigned<'_>, Option<u64>)) {
    number(out, r#","unsigned":{"age":"#, unsigned.age);
    if let Some(left_ms) = sticky_left_ms {
        number(out, r#","msc4354_sticky_duration_ttl_ms":"#, left_ms);
    }
    if let Some(membership) = unsigned.membership {
        out.push_str(r#","membership":""#);
        out.push_str(membership.as_str());
        out.push('"');
    }
    if let Some(Replaced { event, is_seen }) = &unsigned.replaced {
        if *is_seen {
            out.push_str(r#","prev_content":"#);
            out.push_str(&tame(event.pdu.event_type(), event.pdu.content().get()));
            out.push_str(r#","prev_sender":"#);
            string(out, event.pdu.sender().as_str());
        }
        out.push_str(r#","replaces_state":"#);
        string(out, event.pdu.event_id().as_str());
    }
    if let Some(because) = &unsigned.redacted_because {
        out.push_str(r#","redacted_because":"#);
        out.push_str(because);
    }
    if let Some(relations) = unsigned.relations {
        out.push_str(r#","m.relations":"#);
        out.push_str(relations.get());
    }
    if let Some(txn) = unsigned.transaction_id {
        out.push_str(r#","transaction_id":"#);
        string(out, txn);
    }
    if let Some(delay_id) = unsigned.delay_id {
        for before in [r#","delay_id":"#, r#","org.matrix.msc4140.delay_id":"#] {
            out.push_str(before);
            string(out, delay_id);
        }
    }
    out.push('}');
}

/// The id by which a delayed event was known before it was sent.
fn delay(event: &StoredEvent) -> Option<&str> {
    let (device, txn) = event.notes.txn.as_ref()?;
    (device.is_empty() && txn.starts_with(DELAY_ID)).then_some(txn.as_str())
}

fn number(out: &mut String, before: &str, value: u64) {
    out.push_str(before);
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends `text` as a JSON string. Identifiers hardly ever need escaping.
fn string(out: &mut String, text: &str) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    out.push('"');
    match plain {
        true => out.push_str(text),
        false => {
            let escaped = serde_json::Value::from(text).to_string();
            out.push_str(escaped.get(1..escaped.len() - 1).unwrap_or_default());
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn strings_are_escaped_where_they_must() {
        for text in ["", "plain", "é☃", "a\"b", "a\\b", "\u{0}\n", "\u{7f}", "😀\""] {
            let mut out = String::new();
            string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
