//! What a client gets, as it is serialized.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use crate::types::{Cursor, Position};

/// JSON that is passed on as it is.
pub(super) type Json = Box<RawValue>;

/// A list of events in an object of its own.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<Json>,
}

impl Events {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// The answer to `GET /sync`.
#[derive(Debug, Serialize)]
pub struct SyncResponse {
    #[serde(serialize_with = "as_text")]
    next_batch: Cursor,
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub(super) rooms: Rooms,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) presence: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) account_data: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) to_device: Events,
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub(super) device_lists: DeviceLists,
    #[serde(rename = "org.matrix.msc4429.users", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) users: BTreeMap<OwnedUserId, UserUpdate>,
    pub(super) device_one_time_keys_count: BTreeMap<String, u64>,
    pub(super) device_unused_fallback_key_types: BTreeSet<String>,
    #[serde(rename = "org.matrix.msc2732.device_unused_fallback_key_types")]
    pub(super) unstable_fallback_key_types: BTreeSet<String>,
    /// Something of the device itself changed, so that the answer is worth sending.
    #[serde(skip)]
    pub(super) keys_changed: bool,
}

impl SyncResponse {
    pub(super) fn new(to: Cursor) -> Self {
        Self {
            next_batch: to,
            rooms: Rooms::default(),
            presence: Events::default(),
            account_data: Events::default(),
            to_device: Events::default(),
            device_lists: DeviceLists::default(),
            users: BTreeMap::new(),
            device_one_time_keys_count: BTreeMap::new(),
            device_unused_fallback_key_types: BTreeSet::new(),
            unstable_fallback_key_types: BTreeSet::new(),
            keys_changed: false,
        }
    }

    /// Up to where in the log the client has everything now.
    #[must_use]
    pub fn reached(&self) -> Position {
        self.next_batch.log
    }

    /// Whether a client would learn nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_empty()
            && self.users.is_empty()
            && !self.keys_changed
    }
}

fn as_text<S: Serializer>(cursor: &Cursor, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cursor)
}

/// What changed of a user, whatever the room.
#[derive(Debug, Serialize)]
pub(super) struct UserUpdate {
    /// Fields of the profile, those that are gone as `null`; `null` itself when the client may forget all of them.
    pub(super) profile_updates: Option<BTreeMap<String, Value>>,
}

impl UserUpdate {
    /// Whether a client would learn nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.profile_updates.as_ref().is_some_and(BTreeMap::is_empty)
    }
}

/// Whose devices have to be looked up anew.
#[derive(Debug, Default, Serialize)]
pub(super) struct DeviceLists {
    pub(super) changed: BTreeSet<OwnedUserId>,
    pub(super) left: BTreeSet<OwnedUserId>,
}

impl DeviceLists {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

/// The rooms, by what the user is to them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Rooms {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) join: BTreeMap<OwnedRoomId, RoomUpdate>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) invite: BTreeMap<OwnedRoomId, Invited>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) knock: BTreeMap<OwnedRoomId, Knocked>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) leave: BTreeMap<OwnedRoomId, RoomUpdate>,
}

impl Rooms {
    /// Whether the user is invited to a room, or knocks at it.
    pub(super) fn awaits(&self, room: &RoomId) -> bool {
        self.invite.contains_key(room) || self.knock.contains_key(room)
    }

    fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// A room to which the user is invited.
#[derive(Debug, Default, Serialize)]
pub(super) struct Invited {
    pub(super) invite_state: Events,
}

/// A room at which the user knocks.
#[derive(Debug, Default, Serialize)]
pub(super) struct Knocked {
    pub(super) knock_state: Events,
}

/// A room that the user is in, or has left.
#[derive(Debug, Default, Serialize)]
pub(super) struct RoomUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<Summary>,
    /// Always there: some clients take a room without it for an answer that makes no sense.
    pub(super) timeline: Timeline,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<Events>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_after: Option<Events>,
    #[serde(rename = "org.matrix.msc4222.state_after", skip_serializing_if = "Option::is_none")]
    pub(super) unstable_state_after: Option<Events>,
    pub(super) ephemeral: Events,
    pub(super) account_data: Events,
    #[serde(rename = "msc4354_sticky", skip_serializing_if = "Events::is_empty")]
    pub(super) sticky: Events,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unread_notifications: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unread_thread_notifications: Option<BTreeMap<OwnedEventId, Counts>>,
    /// The counts are worth sending by themselves.
    #[serde(skip)]
    pub(super) counts_changed: bool,
}

impl RoomUpdate {
    /// Whether a client would learn nothing.
    pub(super) fn is_empty(&self) -> bool {
        let states = [&self.state, &self.state_after, &self.unstable_state_after];
        self.timeline.is_empty()
            && states.into_iter().flatten().all(Events::is_empty)
            && self.summary.is_none()
            && self.ephemeral.is_empty()
            && self.account_data.is_empty()
            && self.sticky.is_empty()
            && !self.counts_changed
    }
}

/// Events in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    pub(super) events: Vec<Json>,
    pub(super) limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_batch: Option<String>,
}

impl Timeline {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.limited
    }
}

/// What a room is called by when it has no name.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub(super) heroes: Option<Vec<OwnedUserId>>,
    #[serde(rename = "m.joined_member_count", skip_serializing_if = "Option::is_none")]
    pub(super) joined: Option<u64>,
    #[serde(rename = "m.invited_member_count", skip_serializing_if = "Option::is_none")]
    pub(super) invited: Option<u64>,
}

/// Unread messages.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) highlight_count: u64,
    pub(super) notification_count: u64,
}
