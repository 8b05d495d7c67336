//! A stored event, and its bytes.
//!
//! The bytes: the position (eight), format, status, flags, room version, then as the flags say the
//! states before and after the event and the room's current state with it (sixteen each, left out where
//! equal to the one before), the notes, and last the PDU as canonical JSON.

use std::sync::Arc;

use ruma::{
    EventId, OwnedEventId, RoomVersionId, events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde::{Deserialize, Serialize};

use super::chains;
use crate::{
    dag::{Pdu, StateId, versions},
    log::Commit,
    store::{Key, StoreError, table::TableId},
    types::Position,
};

const FORMAT: u8 = 1;
/// The type of events that say nothing and only follow others, as several servers send them.
pub const DUMMY_EVENT: &str = "org.matrix.dummy_event";
/// The reason why nothing is shown of an event that was taken into the timeline.
const EXPIRED: &str = "expired";
const HAS_STATES: u8 = 1;
const MOVES_AFTER: u8 = 2;
const MOVES_CURRENT: u8 = 4;
const HAS_NOTES: u8 = 8;
const UNSOUND: u8 = 16;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Part of the room, at its position in the log.
    Timeline = 0,
    /// Known without its place in the graph, say as an auth event.
    Outlier = 1,
    /// Allowed where it stands, but not by what was current when it came; not shown.
    SoftFailed = 2,
    /// Forbidden; not shown and never part of a state.
    Rejected = 3,
    /// From before this server was in the room; shown, but not in the log.
    Backfilled = 4,
}

impl Status {
    fn read(byte: u8) -> Option<Self> {
        [Self::Timeline, Self::Outlier, Self::SoftFailed, Self::Rejected, Self::Backfilled]
            .into_iter()
            .find(|status| *status as u8 == byte)
    }
}

/// The room states around an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States {
    /// Before it, by the events that it follows.
    pub before: StateId,
    /// After it, likewise.
    pub after: StateId,
    /// The room's current state once the event was in its timeline; differs from `after` in forks.
    pub current: StateId,
}

/// What is known of an event beside what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventNotes {
    /// The local device that sent it, and its transaction id.
    pub txn: Option<(String, String)>,
    /// The event that redacted it.
    pub redacted_by: Option<OwnedEventId>,
    /// Why it was rejected or soft-failed.
    pub reason: Option<String>,
    /// The states around it lack members who were never known here: our users have left before that. Clients were
    /// shown it by these states; nothing is built on them.
    #[serde(skip)]
    pub unsound: bool,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event; redacted, if it is.
    pub pdu: Pdu,
    /// Where it is in the log; zero if it is not part of a timeline.
    pub position: Position,
    /// What became of it.
    pub status: Status,
    /// The room version.
    pub version: RoomVersionId,
    /// The states around it, if they are known.
    pub states: Option<States>,
    /// What else is known.
    pub notes: EventNotes,
}

/// The key of an event's row.
#[must_use]
pub(super) fn key(event_id: &EventId) -> Key {
    Key::new(TableId::Event, &(event_id.to_owned(),))
}

/// Whether a row is that of an event which is not shown, without reading all of it.
pub(super) fn is_hidden(row: &[u8]) -> bool {
    // After the position and the format.
    let status = row.get(9).copied().and_then(Status::read);
    matches!(status, Some(Status::SoftFailed | Status::Rejected))
}

impl StoredEvent {
    /// The rules of its room version.
    #[must_use]
    pub fn rules(&self) -> &'static RoomVersionRules {
        versions::rules(&self.version).expect("only events of supported versions are stored")
    }

    /// The states around it, if they can be built on.
    #[must_use]
    pub fn sound_states(&self) -> Option<States> {
        self.states.filter(|_| !self.notes.unsound)
    }

    /// Whether clients may be shown this event, visibility aside.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        matches!(self.status, Status::Timeline | Status::Backfilled) && !self.is_expired()
    }

    /// Whether it says anything.
    #[must_use]
    pub fn says_something(&self) -> bool {
        *self.pdu.event_type() != TimelineEventType::from(DUMMY_EVENT)
    }

    /// Whether its content is gone because its time is over, or its sender wanted that.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self.status, Status::Timeline | Status::Backfilled)
            && self.notes.reason.as_deref() == Some(EXPIRED)
    }

    /// From now on it counts as [`Self::is_expired`].
    pub(crate) fn expire(&mut self) {
        self.notes.reason = Some(String::from(EXPIRED));
    }

    /// Whether it came at its place in the graph, shown or not, and not later as part of the past.
    #[must_use]
    pub fn is_of_timeline(&self) -> bool {
        matches!(self.status, Status::Timeline | Status::SoftFailed | Status::Rejected)
    }

    /// Writes the row, and those of the auth chain index. An event without a position that belongs to a timeline takes that of the fact
    /// which was added last to `commit`.
    pub fn record(&self, commit: &mut Commit) {
        if self.status != Status::Rejected {
            chains::record(&self.pdu, commit);
        }
        let key = key(self.pdu.event_id());
        let rest = self.encode();
        match (self.status, self.position) {
            (Status::Timeline, Position::ZERO) => commit.put_stamped(key, Vec::new(), &rest),
            _ => {
                let mut value = self.position.to_bytes().to_vec();
                value.extend_from_slice(&rest);
                commit.put_raw(key, value);
            }
        }
    }

    /// Has `commit` refused if the event is stored.
    pub(crate) fn expect_absent(&self, commit: &mut Commit) {
        commit.expect_raw(crate::store::Expect::Absent(key(self.pdu.event_id())));
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub(super) fn weight(&self) -> u64 {
        // The text is held once whole and once as content; the rest is identifiers.
        let text = self.pdu.text().len() + self.pdu.content().get().len();
        u64::try_from(text).unwrap_or(u64::MAX).saturating_add(1_000)
    }

    /// The row without its position.
    fn encode(&self) -> Vec<u8> {
        let text = self.pdu.text();
        let mut out = Vec::with_capacity(text.len() + 64);
        let number = versions::SUPPORTED.iter().position(|known| *known == self.version).unwrap_or_default();
        let mut flags = 0;
        let mut roots: Vec<StateId> = Vec::new();
        if let Some(States { before, after, current }) = self.states {
            flags |= HAS_STATES;
            roots.push(before);
            if after != before {
                flags |= MOVES_AFTER;
                roots.push(after);
            }
            if current != after {
                flags |= MOVES_CURRENT;
                roots.push(current);
            }
        }
        let has_notes = self.notes != EventNotes { unsound: self.notes.unsound, ..EventNotes::default() };
        flags |= if has_notes { HAS_NOTES } else { 0 };
        flags |= if self.notes.unsound { UNSOUND } else { 0 };
        out.extend_from_slice(&[FORMAT, self.status as u8, flags, u8::try_from(number).unwrap_or_default()]);
        roots.iter().for_each(|root| out.extend_from_slice(&root.0));
        if has_notes {
            // Notes are strings and options; postcard fails only on types that it cannot represent.
            out.extend_from_slice(&postcard::to_stdvec(&self.notes).expect("notes serialize"));
        }
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// Reads a row.
    pub(super) fn decode(event_id: &EventId, bytes: &[u8]) -> Result<Arc<Self>, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("event {event_id}: {what}"));
        let (position, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| corrupt("no position"))?;
        let ([format, status, flags, version], mut rest) =
            rest.split_first_chunk::<4>().ok_or_else(|| corrupt("no header"))?;
        if *format != FORMAT {
            return Err(corrupt("unknown format"));
        }
        let status = Status::read(*status).ok_or_else(|| corrupt("unknown status"))?;
        let version = versions::SUPPORTED
            .get(usize::from(*version))
            .cloned()
            .ok_or_else(|| corrupt("unknown room version"))?;
        let rules = versions::rules(&version).ok_or_else(|| corrupt("unknown room version"))?;
        let mut root = |wanted: u8, default: StateId| -> Result<StateId, StoreError> {
            if flags & wanted == 0 {
                return Ok(default);
            }
            let (id, tail) = rest.split_first_chunk::<16>().ok_or_else(|| corrupt("no state"))?;
            rest = tail;
            Ok(StateId(*id))
        };
        let before = root(HAS_STATES, StateId::EMPTY)?;
        let after = root(MOVES_AFTER, before)?;
        let current = root(MOVES_CURRENT, after)?;
        let states = (flags & HAS_STATES != 0).then_some(States { before, after, current });
        let mut notes = EventNotes::default();
        if flags & HAS_NOTES != 0 {
            (notes, rest) = postcard::take_from_bytes(rest).map_err(|error| corrupt(&error.to_string()))?;
        }
        notes.unsound = flags & UNSOUND != 0;
        let text = String::from_utf8(rest.to_vec()).map_err(|_| corrupt("not UTF-8"))?;
        let pdu = Pdu::load(text, event_id.to_owned(), rules).map_err(|error| corrupt(&error.to_string()))?;
        let pdu = if status == Status::Rejected { pdu.into_rejected() } else { pdu };
        let position = Position(u64::from_be_bytes(*position));
        Ok(Arc::new(Self { pdu, position, status, version, states, notes }))
    }
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;

    use super::{EventNotes, States, Status, StoredEvent};
    use crate::{
        dag::{Pdu, StateId},
        types::Position,
    };

    fn pdu() -> Pdu {
        let text = r#"{"auth_events":[],"content":{},"depth":1,"origin_server_ts":5,"prev_events":[],"room_id":"!r:x","sender":"@a:x","type":"t"}"#;
        let rules = crate::dag::versions::rules(&RoomVersionId::V11).unwrap();
        Pdu::load(String::from(text), "$e".try_into().unwrap(), rules).unwrap()
    }

    #[test]
    fn rows_read_back() {
        let (a, b, c) = (StateId([1; 16]), StateId([2; 16]), StateId([3; 16]));
        let notes = EventNotes { txn: Some(("D".into(), "t".into())), ..EventNotes::default() };
        for states in [
            None,
            Some(States { before: a, after: a, current: a }),
            Some(States { before: a, after: b, current: b }),
            Some(States { before: a, after: a, current: c }),
            Some(States { before: a, after: b, current: c }),
        ] {
            for (status, notes) in [
                (Status::Timeline, EventNotes::default()),
                (Status::Outlier, notes.clone()),
                (Status::Timeline, EventNotes { unsound: true, ..EventNotes::default() }),
                (Status::Timeline, EventNotes { unsound: true, ..notes.clone() }),
                (Status::Rejected, EventNotes { reason: Some("no".into()), ..EventNotes::default() }),
            ] {
                let event = StoredEvent {
                    pdu: pdu(),
                    position: Position(7),
                    status,
                    version: RoomVersionId::V11,
                    states,
                    notes,
                };
                let mut bytes = event.position.to_bytes().to_vec();
                bytes.extend(event.encode());
                let again = StoredEvent::decode(event.pdu.event_id(), &bytes).unwrap();
                assert_eq!(again.states, event.states);
                assert_eq!(again.notes, event.notes);
                assert_eq!((again.status, again.position), (event.status, event.position));
                assert_eq!(again.pdu.is_rejected(), status == Status::Rejected);
                for end in 0..bytes.len() {
                    assert!(StoredEvent::decode(event.pdu.event_id(), &bytes[..end]).is_err());
                }
            }
        }
    }
}
