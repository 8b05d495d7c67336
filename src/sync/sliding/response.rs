//! What a client of sliding sync gets, as it is serialized.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedMxcUri, OwnedRoomId, OwnedUserId};
use serde::{Serialize, Serializer};

use super::{
    profiles::ProfilesResult,
    request::{ListName, Shape},
    sticky::StickyResult,
};
use crate::sync::response::{Counts, DeviceLists, Json};

/// The answer.
#[derive(Debug, Default, Serialize)]
pub struct SlidingResponse {
    pub(super) pos: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn_id: Option<String>,
    pub(super) lists: BTreeMap<String, ListResult>,
    pub(super) rooms: BTreeMap<OwnedRoomId, RoomResult>,
    pub(super) extensions: ExtensionResults,
}

impl SlidingResponse {
    /// Whether a client would learn nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.extensions.is_empty()
    }
}

/// How long a list is.
#[derive(Debug, Serialize)]
pub(super) struct ListResult {
    pub(super) count: u64,
}

/// A user by whom a room without a name is called.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Hero {
    pub(super) user_id: OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) avatar_url: Option<String>,
}

/// What there is to say of a room. `Some(None)` is said as `null`: there was one and is none any more.
#[derive(Debug, Default, Serialize)]
pub(super) struct RoomResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bump_stamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "names")]
    pub(super) lists: Vec<ListName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) avatar: Option<Option<OwnedMxcUri>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heroes: Option<Vec<Hero>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_dm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) initial: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expanded_timeline: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unstable_expanded_timeline: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) required_state: Option<Vec<Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeline: Option<Vec<Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_batch: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) num_live: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) joined_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invited_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stripped_state: Option<Vec<Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invite_state: Option<Vec<Json>>,
    #[serde(flatten)]
    pub(super) counts: Option<Counts>,
}

impl RoomResult {
    /// Whether a client would learn nothing that it does not know.
    pub(super) fn is_empty(&self) -> bool {
        let Self { bump_stamp, name, avatar, heroes, initial, expanded_timeline, .. } = self;
        let Self { required_state, timeline, limited, joined_count, stripped_state, counts, .. } = self;
        bump_stamp.is_none()
            && name.is_none()
            && avatar.is_none()
            && heroes.is_none()
            && initial.is_none()
            && expanded_timeline.is_none()
            && [required_state, timeline].into_iter().all(|list| list.as_ref().is_none_or(Vec::is_empty))
            && !limited
            && joined_count.is_none()
            && stripped_state.is_none()
            && counts.is_none()
            && self.is_dm.is_none()
    }

    /// How much of it is events, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let all = [&self.required_state, &self.timeline, &self.stripped_state];
        all.into_iter().flatten().flatten().map(|event| event.get().len()).sum()
    }

    /// The fields as the shape names them.
    pub(super) fn into_shape(mut self, shape: Shape) -> Self {
        match shape {
            Shape::Final => self.counts = None,
            Shape::Unstable => {
                self.unstable_expanded_timeline = self.expanded_timeline.take();
                self.invite_state = self.stripped_state.take();
                self.lists.clear();
                self.membership = None;
            }
        }
        self
    }
}

fn names<S: Serializer>(names: &[ListName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| &**name))
}

/// What there is to say beside rooms.
#[derive(Debug, Default, Serialize)]
pub(super) struct ExtensionResults {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_device: Option<ToDeviceResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) e2ee: Option<E2eeResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account_data: Option<DataResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipts: Option<RoomsResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) typing: Option<RoomsResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thread_subscriptions: Option<ThreadsResult>,
    #[serde(rename = "io.element.msc4308.thread_subscriptions", skip_serializing_if = "Option::is_none")]
    pub(super) unstable_thread_subscriptions: Option<ThreadsResult>,
    #[serde(rename = "org.matrix.msc4354.sticky_events", skip_serializing_if = "Option::is_none")]
    pub(super) sticky: Option<StickyResult>,
    #[serde(rename = "org.matrix.msc4262.profiles", skip_serializing_if = "Option::is_none")]
    pub(super) profiles: Option<ProfilesResult>,
}

impl ExtensionResults {
    fn is_empty(&self) -> bool {
        self.to_device.as_ref().is_none_or(|to_device| to_device.events.is_empty())
            && self.e2ee.as_ref().is_none_or(|e2ee| e2ee.device_lists.is_none() && !e2ee.keys_changed)
            && self.account_data.as_ref().is_none_or(|data| data.global.is_empty() && data.rooms.is_empty())
            && [&self.receipts, &self.typing]
                .into_iter()
                .all(|rooms| rooms.as_ref().is_none_or(|rooms| rooms.rooms.is_empty()))
            && self.thread_subscriptions.is_none()
            && self.unstable_thread_subscriptions.is_none()
            && self.sticky.as_ref().is_none_or(StickyResult::is_empty)
            && self.profiles.as_ref().is_none_or(ProfilesResult::is_empty)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ToDeviceResult {
    pub(super) next_batch: String,
    pub(super) events: Vec<Json>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct E2eeResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_lists: Option<DeviceLists>,
    pub(super) device_one_time_keys_count: BTreeMap<String, u64>,
    pub(super) device_unused_fallback_key_types: BTreeSet<String>,
    /// Worth an answer of its own.
    #[serde(skip)]
    pub(super) keys_changed: bool,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct DataResult {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) global: Vec<Json>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rooms: BTreeMap<OwnedRoomId, Vec<Json>>,
}

/// One event for each room.
#[derive(Debug, Default, Serialize)]
pub(super) struct RoomsResult {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rooms: BTreeMap<OwnedRoomId, Json>,
}

/// By room and root of the thread.
type ByThread<T> = BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, T>>;

#[derive(Debug, Default, Serialize)]
pub(super) struct ThreadsResult {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) subscribed: ByThread<Subscribed>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unsubscribed: ByThread<Unsubscribed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_batch: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Subscribed {
    pub(super) automatic: bool,
    pub(super) bump_stamp: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Unsubscribed {
    pub(super) bump_stamp: u64,
}
