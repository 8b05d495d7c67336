//! Makes events of our own: from what a user wants to say to a signed [`Pdu`].

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
    state_res::auth_types_for_event,
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    auth::Denied,
    pdu::{FormatError, Pdu, STICKY, within},
};
use crate::{
    keys::{self, ObjectError, SigningKey},
    limits::{DEPTH_MAX, PREV_EVENTS_MAX},
};

/// What a user wants to say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room; `None` only for the create event of room version 12, which names its room by itself.
    pub room_id: Option<OwnedRoomId>,
    /// The sender.
    pub sender: OwnedUserId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content: a JSON object.
    pub content: Box<RawValue>,
    /// The event to redact; it is put where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// Now.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// See [`Pdu::sticky_ms`].
    pub sticky_ms: Option<u64>,
}

/// An event that the new one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its depth.
    pub depth: u64,
    /// Its reference hash, which only the references of room versions 1 and 2 carry.
    pub sha256: Option<String>,
}

impl Head {
    /// The head that `pdu` is.
    #[must_use]
    pub fn of(pdu: &Pdu, rules: &RoomVersionRules) -> Self {
        let sha256 = match rules.events_reference_format {
            EventsReferenceFormatVersion::V1 => keys::reference_hash(&pdu.object(), rules).ok(),
            EventsReferenceFormatVersion::V2 => None,
        };
        Self { event_id: pdu.event_id().to_owned(), depth: pdu.depth(), sha256 }
    }
}

/// Why no event can be made of a draft.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The content is not a JSON object that canonical JSON can express.
    #[error("the content is not canonical JSON: {0}")]
    Content(#[source] serde_json::Error),
    /// The event breaks the format or the size limits; see [`FormatError::TooLarge`].
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The content is malformed so that the auth events cannot be selected.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The draft has no room although its room version needs one.
    #[error("the event names no room")]
    NoRoom,
    /// The event cannot be hashed or signed.
    #[error(transparent)]
    Sign(#[from] ObjectError),
}

impl BuildError {
    /// Whether the event or one of its fields is too long (`M_TOO_LARGE`).
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        let signed = |error: &ObjectError| {
            matches!(error, ObjectError::Object(ruma::signatures::JsonError::PduTooLarge))
        };
        match self {
            Self::Format(FormatError::TooLarge { .. }) => true,
            Self::Format(FormatError::Hash(error)) | Self::Sign(error) => signed(error),
            _ => false,
        }
    }
}

/// Builds and signs an event that follows `heads`, with its auth events from `state`.
///
/// `state` is the state of the room before the event, as a lookup; the keys it is asked for are those of
/// [`draft_state_keys`].
pub fn build(
    draft: Draft,
    heads: &[Head],
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
    rules: &RoomVersionRules,
    key: &SigningKey,
) -> Result<Pdu, BuildError> {
    let auth = auth_heads(&draft, state, rules)?;
    build_on(draft, (heads, &auth), rules, key)
}

/// Builds and signs an event that follows and names what another server says: `(heads, auth)`. The depth
/// of the event is one more than the greatest of `heads`.
pub fn build_on(
    draft: Draft,
    (heads, auth): (&[Head], &[Head]),
    rules: &RoomVersionRules,
    key: &SigningKey,
) -> Result<Pdu, BuildError> {
    let mut object = unsigned_object(draft, heads, auth, rules)?;
    if rules.event_format.require_event_id {
        let id = local_event_id(&object, key);
        object.insert(String::from("event_id"), id.into());
    }
    key.hash_and_sign(&mut object, rules)?;
    Ok(Pdu::from_object(object, rules)?)
}

/// What another server needs to build an event of its user as [`build`] does: the event without its hash,
/// its signature and its id.
pub fn template(
    draft: Draft,
    heads: &[Head],
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject, BuildError> {
    let auth = auth_heads(&draft, state, rules)?;
    unsigned_object(draft, heads, &auth, rules)
}

/// The events that a template refers to in `field`, each of `depth`.
///
/// # Errors
/// When the field is absent or malformed, or names nothing or too much.
pub fn template_heads(
    template: &CanonicalJsonObject,
    (field, max): (&'static str, usize),
    depth: u64,
    rules: &RoomVersionRules,
) -> Result<Vec<Head>, FormatError> {
    let malformed = || FormatError::Field(field);
    let items = template.get(field).and_then(CanonicalJsonValue::as_array).ok_or_else(malformed)?;
    within(field, items.len(), max)?;
    let one = |item: &CanonicalJsonValue| -> Option<Head> {
        let (id, sha256) = match rules.events_reference_format {
            EventsReferenceFormatVersion::V2 => (item.as_str()?, None),
            EventsReferenceFormatVersion::V1 => {
                let [id, hashes] = item.as_array()? else { return None };
                let hash = hashes.as_object()?.get("sha256").and_then(CanonicalJsonValue::as_str);
                (id.as_str()?, hash.map(String::from))
            }
        };
        Some(Head { event_id: OwnedEventId::try_from(id).ok()?, depth, sha256 })
    };
    let heads: Option<Vec<Head>> = items.iter().map(one).collect();
    heads.filter(|heads| !heads.is_empty()).ok_or_else(malformed)
}

fn auth_heads(
    draft: &Draft,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
    rules: &RoomVersionRules,
) -> Result<Vec<Head>, BuildError> {
    let keys = auth_events_keys(draft, rules)?;
    let named = keys.iter().filter_map(|(event_type, state_key)| state(event_type, state_key));
    Ok(named.map(|pdu| Head::of(&pdu, rules)).collect())
}

/// The state that [`build`] and the checks that follow it ask for: prefetch these.
pub fn draft_state_keys(
    draft: &Draft,
    rules: &RoomVersionRules,
) -> Result<Vec<(StateEventType, String)>, Denied> {
    if draft.event_type == TimelineEventType::RoomCreate {
        return Ok(Vec::new());
    }
    let mut keys = auth_events_keys(draft, rules)?;
    let create = (StateEventType::RoomCreate, String::new());
    if !keys.contains(&create) {
        keys.push(create);
    }
    Ok(keys)
}

/// The content of a create event: `extra` with the fields that the room version demands.
///
/// The caller decides about `m.federate`, `type`, `predecessor` and `additional_creators` in `extra`.
#[must_use]
pub fn create_content(
    version: &RoomVersionId,
    rules: &RoomVersionRules,
    creator: &OwnedUserId,
    mut extra: CanonicalJsonObject,
) -> CanonicalJsonObject {
    extra.insert(String::from("room_version"), version.as_str().into());
    match rules.authorization.use_room_create_sender {
        true => extra.remove("creator"),
        false => extra.insert(String::from("creator"), creator.as_str().into()),
    };
    extra
}

fn auth_events_keys(
    draft: &Draft,
    rules: &RoomVersionRules,
) -> Result<Vec<(StateEventType, String)>, Denied> {
    let state_key = draft.state_key.as_deref();
    auth_types_for_event(&draft.event_type, &draft.sender, state_key, &draft.content, &rules.authorization)
        .map_err(Denied)
}

fn unsigned_object(
    draft: Draft,
    heads: &[Head],
    auth: &[Head],
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject, BuildError> {
    let mut content = keys::parse_object(draft.content.get()).map_err(BuildError::Content)?;
    let mut object = CanonicalJsonObject::new();
    let mut put = |name: &str, value: CanonicalJsonValue| object.insert(String::from(name), value);
    if let Some(redacts) = draft.redacts {
        let value = CanonicalJsonValue::from(redacts.as_str());
        match rules.redaction.content_field_redacts {
            true => content.insert(String::from("redacts"), value),
            false => {
                content.remove("redacts");
                put("redacts", value)
            }
        };
    }
    let implied =
        draft.event_type == TimelineEventType::RoomCreate && !rules.event_format.require_room_create_room_id;
    match draft.room_id {
        _ if implied => {}
        Some(room_id) => drop(put("room_id", room_id.as_str().into())),
        None => return Err(BuildError::NoRoom),
    }
    match (draft.state_key, draft.sticky_ms) {
        (Some(state_key), _) => drop(put("state_key", state_key.into())),
        (None, Some(sticky_ms)) => {
            let duration = Int::try_from(sticky_ms).unwrap_or(Int::MAX).into();
            let sticky = CanonicalJsonObject::from_iter([(String::from("duration_ms"), duration)]);
            put(STICKY, sticky.into());
        }
        (None, None) => {}
    }
    let newest = newest(heads);
    let depth = newest.iter().map(|head| head.depth).max().map_or(1, |depth| depth.saturating_add(1));
    put("content", content.into());
    put("type", draft.event_type.to_string().into());
    put("sender", draft.sender.as_str().into());
    put("origin_server_ts", draft.origin_server_ts.0.into());
    put("depth", Int::try_from(depth.min(DEPTH_MAX)).unwrap_or(Int::MAX).into());
    put("prev_events", references(&newest, rules));
    put("auth_events", references(&auth.iter().collect::<Vec<_>>(), rules));
    Ok(object)
}

/// The deepest heads, at most as many as an event may name. The others stay heads and get their turn.
fn newest(heads: &[Head]) -> Vec<&Head> {
    let mut newest: Vec<&Head> = heads.iter().collect();
    newest.sort_by(|a, b| b.depth.cmp(&a.depth).then_with(|| a.event_id.cmp(&b.event_id)));
    newest.truncate(PREV_EVENTS_MAX);
    newest
}

fn references(heads: &[&Head], rules: &RoomVersionRules) -> CanonicalJsonValue {
    let one = |head: &&Head| {
        let id = CanonicalJsonValue::from(head.event_id.as_str());
        match rules.events_reference_format {
            EventsReferenceFormatVersion::V2 => id,
            EventsReferenceFormatVersion::V1 => {
                let hash = head.sha256.iter().map(|hash| (String::from("sha256"), hash.as_str().into()));
                CanonicalJsonValue::Array(vec![id, CanonicalJsonValue::Object(hash.collect())])
            }
        }
    };
    CanonicalJsonValue::Array(heads.iter().map(one).collect())
}

/// An id for an event of room versions 1 and 2, whose ids are arbitrary: taken from the event's hash, so
/// that building stays free of randomness. Two equal drafts in one millisecond are one event.
fn local_event_id(object: &CanonicalJsonObject, key: &SigningKey) -> String {
    let hash = Sha256::digest(keys::canonical_text(object));
    let local: String = hash
        .iter()
        .take(18)
        .map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(byte % 32)]))
        .collect();
    format!("${local}:{}", key.server())
}
