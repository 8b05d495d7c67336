//! Which events a client wants.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{
    OwnedUserId, RoomId, UserId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde_json::value::RawValue;

use crate::dag::Pdu;

/// Whether `pattern`, in which `*` stands for anything, matches `text`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn type_passes(event_type: &str, types: Option<&[String]>, not_types: &[String]) -> bool {
    let among = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, event_type));
    types.is_none_or(among) && !among(not_types)
}

fn sender_passes(sender: &UserId, senders: Option<&[OwnedUserId]>, not_senders: &[OwnedUserId]) -> bool {
    senders.is_none_or(|senders| senders.iter().any(|wanted| wanted == sender))
        && !not_senders.iter().any(|unwanted| unwanted == sender)
}

/// Whether a room's event passes.
#[must_use]
pub fn passes(filter: &RoomEventFilter, event: (&str, &UserId, &RawValue)) -> bool {
    let (event_type, sender, content) = event;
    type_passes(event_type, filter.types.as_deref(), &filter.not_types)
        && sender_passes(sender, filter.senders.as_deref(), &filter.not_senders)
        && match &filter.url_filter {
            None => true,
            Some(wanted) => has_url(content) == (*wanted == UrlFilter::EventsWithUrl),
        }
}

/// Whether the filter lets some events through and others not.
pub(super) fn is_selective(filter: &RoomEventFilter) -> bool {
    filter.types.is_some()
        || filter.senders.is_some()
        || filter.url_filter.is_some()
        || !filter.not_types.is_empty()
        || !filter.not_senders.is_empty()
}

/// Whether a stored event passes.
#[must_use]
pub fn wants(filter: &RoomEventFilter, pdu: &Pdu) -> bool {
    !is_selective(filter) || passes(filter, (&pdu.event_type().to_string(), pdu.sender(), pdu.content()))
}

/// Whether members that the client should know already are sent all the same.
pub(super) fn is_redundant(filter: &RoomFilter) -> bool {
    let redundant = |options: &LazyLoadOptions| {
        matches!(options, LazyLoadOptions::Enabled { include_redundant_members: true })
    };
    redundant(&filter.state.lazy_load_options) || redundant(&filter.timeline.lazy_load_options)
}

/// Whether something without a sender of a room passes: receipts, typing, account data.
pub(super) fn type_wanted(filter: &RoomEventFilter, event_type: &str) -> bool {
    type_passes(event_type, filter.types.as_deref(), &filter.not_types)
}

/// Whether global account data of a type passes.
pub(super) fn global_type_wanted(filter: &Filter, event_type: &str) -> bool {
    type_passes(event_type, filter.types.as_deref(), &filter.not_types)
}

/// Whether the presence of `sender` passes.
pub(super) fn presence_wanted(filter: &Filter, sender: &UserId) -> bool {
    type_passes("m.presence", filter.types.as_deref(), &filter.not_types)
        && sender_passes(sender, filter.senders.as_deref(), &filter.not_senders)
}

/// Whether anything of a room is wanted.
pub(super) fn room_wanted(filter: &RoomFilter, room: &RoomId) -> bool {
    filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|wanted| wanted == room))
        && !filter.not_rooms.iter().any(|unwanted| unwanted == room)
}

/// Whether one kind of thing of a room is wanted.
pub(super) fn kind_wanted(filter: &RoomEventFilter, room: &RoomId) -> bool {
    filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|wanted| wanted == room))
        && !filter.not_rooms.iter().any(|unwanted| unwanted == room)
}

/// Whether members are sent only when an event needs them.
pub(super) fn is_lazy(filter: &RoomFilter) -> bool {
    !matches!(filter.state.lazy_load_options, LazyLoadOptions::Disabled)
        || !matches!(filter.timeline.lazy_load_options, LazyLoadOptions::Disabled)
}

fn has_url(content: &RawValue) -> bool {
    let content: Result<serde_json::Value, _> = serde_json::from_str(content.get());
    content.is_ok_and(|content| content.get("url").is_some_and(serde_json::Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
    }

    #[test]
    fn a_star_stands_for_anything() {
        check("m.room.message", "m.room.message", true);
        check("m.room.message", "m.room.messages", false);
        check("m.room.*", "m.room.name", true);
        check("m.room.*", "m.call.invite", false);
        check("*", "", true);
        check("*.name", "m.room.name", true);
        check("m.*.n*e", "m.room.name", true);
        check("m.*.n*e", "m.room.nam", false);
        check("a*a", "a", false);
        check("", "x", false);
    }
}
