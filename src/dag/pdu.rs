//! A persistent data unit: one event of a room, as the room's servers exchange it.

use std::{fmt, sync::Arc};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
    state_res,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    keys,
    limits::{AUTH_EVENTS_MAX, EVENT_BYTES_MAX, ID_BYTES_MAX, PREV_EVENTS_MAX, STICKY_MS_MAX},
    types::Membership,
};

/// Why a text is not an event of its room version. Such a text is dropped, never stored.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Not JSON, or not expressible as canonical JSON.
    #[error("not canonical JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field does not hold what its name says.
    #[error("a field is malformed: {0}")]
    Shape(#[source] serde_json::Error),
    /// A field is absent or of the wrong type.
    #[error("`{0}` is missing or malformed")]
    Field(&'static str),
    /// The event or one of its fields is longer than the specification allows.
    #[error("`{field}` has {size}, more than the {max} allowed")]
    TooLarge {
        /// The field, or `event` for the whole.
        field: &'static str,
        /// Its length in bytes, or the number of its items.
        size: usize,
        /// The bound.
        max: usize,
    },
    /// The event id cannot be computed.
    #[error(transparent)]
    Hash(#[from] keys::ObjectError),
}

/// An event, cheap to clone.
///
/// The text is canonical JSON without `unsigned`, which no server signs and no server may trust. What is
/// read often is kept typed beside it.
#[derive(Clone)]
pub struct Pdu {
    event: Arc<Event>,
    rejected: bool,
}

struct Event {
    json: Box<RawValue>,
    content: Box<RawValue>,
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    names_room: bool,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: Option<String>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    sender: OwnedUserId,
    room_id: Option<OwnedRoomId>,
    state_key: Option<String>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    #[serde(borrow)]
    prev_events: &'a RawValue,
    #[serde(borrow)]
    auth_events: &'a RawValue,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
}

/// The field by which an event says that it sticks.
pub(super) const STICKY: &str = "msc4354_sticky";

impl Pdu {
    /// Reads an event as another server sent it: checks the format and the size limits and computes the
    /// event id. Signatures are not looked at.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
    pub fn parse(text: &str, rules: &RoomVersionRules) -> Result<Self, FormatError> {
        Self::from_object(keys::parse_object(text)?, rules)
    }

    /// As [`Self::parse`], from an object.
    pub fn from_object(
        mut object: CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Self, FormatError> {
        object.remove("unsigned");
        check_fields(&object, rules)?;
        let text = keys::canonical_text(&object);
        within("event", text.len(), EVENT_BYTES_MAX)?;
        let event_id = keys::event_id(&object, rules)?;
        within("event_id", event_id.as_str().len(), ID_BYTES_MAX)?;
        let pdu = Self::load(text, event_id, rules)?;
        within("prev_events", pdu.prev_events().len(), PREV_EVENTS_MAX)?;
        within("auth_events", pdu.auth_events().len(), AUTH_EVENTS_MAX)?;
        check_create_reference(&pdu, rules)?;
        Ok(pdu)
    }

    /// Reads an event from our own store: the text is what [`Self::text`] gave, and the id is trusted.
    pub fn load(text: String, event_id: OwnedEventId, rules: &RoomVersionRules) -> Result<Self, FormatError> {
        let json = RawValue::from_string(text)?;
        let fields: Fields<'_> = serde_json::from_str(json.get()).map_err(FormatError::Shape)?;
        let is_create = fields.event_type == TimelineEventType::RoomCreate;
        let names_room = fields.room_id.is_some();
        let room_id = match fields.room_id {
            Some(room_id) => room_id,
            None if is_create && !rules.event_format.require_room_create_room_id => {
                room_of_create(&event_id)?
            }
            None => return Err(FormatError::Field("room_id")),
        };
        let event = Event {
            content: fields.content.to_owned(),
            room_id,
            names_room,
            sender: fields.sender,
            state_key: fields.state_key,
            origin_server_ts: fields.origin_server_ts,
            depth: fields.depth,
            prev_events: references(fields.prev_events, "prev_events", rules)?,
            auth_events: references(fields.auth_events, "auth_events", rules)?,
            redacts: redacts(&fields.event_type, fields.redacts, fields.content, rules),
            event_type: fields.event_type,
            event_id,
            json,
        };
        Ok(Self { event: Arc::new(event), rejected: false })
    }

    /// The same event, marked as rejected.
    #[must_use]
    pub fn into_rejected(self) -> Self {
        Self { rejected: true, ..self }
    }

    /// Whether the event was rejected by the authorisation rules.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// The canonical JSON text, with hashes and signatures, without `unsigned`.
    #[must_use]
    pub fn text(&self) -> &str {
        self.event.json.get()
    }

    /// For how long its sender wants it to be told to those who come later, in milliseconds; at most
    /// [`STICKY_MS_MAX`].
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>
    #[must_use]
    pub fn sticky_ms(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Whole {
            msc4354_sticky: Sticky,
        }
        #[derive(Deserialize)]
        struct Sticky {
            duration_ms: u64,
        }
        if self.state_key().is_some()
            || memchr::memmem::find(self.text().as_bytes(), STICKY.as_bytes()).is_none()
        {
            return None;
        }
        let whole: Whole = serde_json::from_str(self.text()).ok()?;
        Some(whole.msc4354_sticky.duration_ms.min(STICKY_MS_MAX))
    }

    /// [`Self::text`] as raw JSON.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.event.json
    }

    /// [`Self::text`] as an object.
    #[must_use]
    pub fn object(&self) -> CanonicalJsonObject {
        keys::parse_object(self.text()).expect("the text was written from a canonical object")
    }

    /// The id: `$opaque:server` in room versions 1 and 2, else `$` and the reference hash.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.event.event_id
    }

    /// The room. A create event of version 12 has no field for it: the room is named after the event.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.event.room_id
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.event.sender
    }

    /// The event type.
    #[must_use]
    pub fn event_type(&self) -> &TimelineEventType {
        &self.event.event_type
    }

    /// The state key; only state events have one.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.event.state_key.as_deref()
    }

    /// Where in the room state this event stands, if it is a state event.
    #[must_use]
    pub fn state_position(&self) -> Option<(StateEventType, String)> {
        let state_key = self.event.state_key.clone()?;
        Some((self.event.event_type.to_string().into(), state_key))
    }

    /// Whether this is the state event of `event_type` with `state_key`.
    #[must_use]
    pub fn is_state(&self, event_type: &StateEventType, state_key: &str) -> bool {
        self.state_key() == Some(state_key) && self.event.event_type.to_string() == event_type.to_string()
    }

    /// When its server says it was sent.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.event.origin_server_ts
    }

    /// One more than the depth of the deepest previous event, as its server says.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.event.depth
    }

    /// The events before this one.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.event.prev_events
    }

    /// The events that allow this one.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.event.auth_events
    }

    /// The event that this one redacts; since room version 11 it is named in the content.
    #[must_use]
    pub fn redacts(&self) -> Option<&EventId> {
        self.event.redacts.as_deref()
    }

    /// The content.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        &self.event.content
    }

    /// The content as `T`; an error if it has another shape.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.event.content.get())
    }

    /// The membership that an `m.room.member` event sets.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }
        if self.event.event_type != TimelineEventType::RoomMember {
            return None;
        }
        self.content_as::<Content>().ok().and_then(|content| Membership::parse(&content.membership))
    }
}

impl fmt::Debug for Pdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { event_id, event_type, state_key, sender, .. } = &*self.event;
        write!(f, "Pdu({event_id} {event_type:?} {state_key:?} by {sender}, rejected: {})", self.rejected)
    }
}

impl PartialEq for Pdu {
    fn eq(&self, other: &Self) -> bool {
        self.rejected == other.rejected
            && self.event.event_id == other.event.event_id
            && self.text() == other.text()
    }
}

impl Eq for Pdu {}

impl state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        // The rules look at the field, which the create event of version 12 must not have.
        self.event.names_room.then_some(&*self.event.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.event.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.event.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event.event_type
    }

    fn content(&self) -> &RawValue {
        &self.event.content
    }

    fn state_key(&self) -> Option<&str> {
        self.event.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.event.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// The room that a create event of version 12 founds.
pub fn room_of_create(event_id: &EventId) -> Result<OwnedRoomId, FormatError> {
    let hash = event_id.as_str().strip_prefix('$').unwrap_or_default();
    OwnedRoomId::try_from(format!("!{hash}")).map_err(|_| FormatError::Field("room_id"))
}

/// The create event after which a room of version 12 is named.
#[must_use]
pub fn create_of_room(room_id: &RoomId) -> Option<OwnedEventId> {
    let hash = room_id.as_str().strip_prefix('!')?;
    OwnedEventId::try_from(format!("${hash}")).ok()
}

pub(super) fn within(field: &'static str, size: usize, max: usize) -> Result<(), FormatError> {
    match size <= max {
        true => Ok(()),
        false => Err(FormatError::TooLarge { field, size, max }),
    }
}

/// How long a field is. Before room version 11 servers counted characters, and what came from them stays good.
fn length(text: &str, rules: &RoomVersionRules) -> usize {
    match rules.redaction.keep_room_redaction_redacts {
        true => text.len(),
        false => text.chars().count(),
    }
}

/// What the typed reading alone would let pass: `null` for absent, and lengths.
fn check_fields(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<(), FormatError> {
    let is_create = object.get("type").and_then(CanonicalJsonValue::as_str) == Some("m.room.create");
    let needs_room = !is_create || rules.event_format.require_room_create_room_id;
    for (field, required) in [
        ("type", true),
        ("sender", true),
        ("room_id", needs_room),
        ("event_id", rules.event_format.require_event_id),
        ("state_key", false),
    ] {
        match object.get(field) {
            Some(CanonicalJsonValue::String(text)) => within(field, length(text, rules), ID_BYTES_MAX)?,
            None if !required => {}
            _ => return Err(FormatError::Field(field)),
        }
    }
    match object.get("content") {
        Some(CanonicalJsonValue::Object(_)) => Ok(()),
        _ => Err(FormatError::Field("content")),
    }
}

/// Since version 12 the create event is implied by the room id and must not be named again.
///
/// <https://spec.matrix.org/v1.19/rooms/v12/#event-format-1>
fn check_create_reference(pdu: &Pdu, rules: &RoomVersionRules) -> Result<(), FormatError> {
    if rules.event_format.allow_room_create_in_auth_events {
        return Ok(());
    }
    let create = create_of_room(pdu.room_id());
    match pdu.auth_events().iter().any(|id| Some(id) == create.as_ref()) {
        true => Err(FormatError::Field("auth_events")),
        false => Ok(()),
    }
}

fn references(
    raw: &RawValue,
    field: &'static str,
    rules: &RoomVersionRules,
) -> Result<Vec<OwnedEventId>, FormatError> {
    let ids = match rules.events_reference_format {
        EventsReferenceFormatVersion::V1 => {
            serde_json::from_str::<Vec<(OwnedEventId, IgnoredAny)>>(raw.get())
                .map(|pairs| pairs.into_iter().map(|(id, _)| id).collect())
        }
        EventsReferenceFormatVersion::V2 => serde_json::from_str(raw.get()),
    };
    ids.map_err(|_| FormatError::Field(field))
}

fn redacts(
    event_type: &TimelineEventType,
    field: Option<&RawValue>,
    content: &RawValue,
    rules: &RoomVersionRules,
) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        redacts: OwnedEventId,
    }
    if *event_type != TimelineEventType::RoomRedaction {
        return None;
    }
    if rules.redaction.content_field_redacts {
        return serde_json::from_str::<Content>(content.get()).ok().map(|content| content.redacts);
    }
    serde_json::from_str(field?.get()).ok()
}
