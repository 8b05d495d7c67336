//! The rows of rooms, except events and state nodes, which have their own encodings.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Map, Value, value::RawValue};

use super::{Boundary, MediaAddress};
use crate::{
    dag::{Head, StateId, versions},
    store::table::{Rows, TableId},
    types::Position,
};

/// Rooms that this server knows or has known.
pub const ROOMS: Rows<(OwnedRoomId,), RoomRow> = Rows::new(TableId::Room);
/// Room aliases of this server.
pub const ALIASES: Rows<(OwnedRoomAliasId,), AliasRow> = Rows::new(TableId::Alias);
/// The aliases of a room.
pub const ROOM_ALIASES: Rows<(OwnedRoomId, OwnedRoomAliasId), ()> = Rows::new(TableId::RoomAlias);
/// Rooms in the public directory, with who put them there.
pub const PUBLISHED: Rows<(OwnedRoomId,), PublishedRow> = Rows::new(TableId::Published);
/// Rooms in the directories of networks beyond Matrix: the application service with the network, the room.
pub const PUBLISHED_IN: Rows<(String, OwnedRoomId), ()> = Rows::new(TableId::PublishedIn);
/// What an invited or knocking user may know of the room.
pub const STRIPPED: Rows<(OwnedUserId, OwnedRoomId), StrippedRow> = Rows::new(TableId::Stripped);
/// Rooms outside of which a user has rejected an invite, or taken back a knock, and nobody there could be told.
pub const FAREWELLS: Rows<(OwnedUserId, OwnedRoomId), FarewellRow> = Rows::new(TableId::Farewell);
/// Rooms that a user has left and does not want to see any more.
pub const FORGOTTEN: Rows<(OwnedUserId, OwnedRoomId), ()> = Rows::new(TableId::Forgotten);
/// Events by the event that they relate to, the kind of relation, and where they are.
pub const RELATIONS: Rows<(OwnedEventId, String, Boundary), RelationRow> = Rows::new(TableId::Relation);
/// Redactions (second) of events (first) that are not here, or not to be redacted by them yet.
pub const REDACTIONS: Rows<(OwnedEventId, OwnedEventId), ()> = Rows::new(TableId::Redaction);
/// Users whose events up to the position are shown redacted to those who were not in the room by then.
pub const ERASED: Rows<(OwnedUserId,), Position> = Rows::new(TableId::Erased);
/// The threads of a room by where their latest event is.
pub const THREADS: Rows<(OwnedRoomId, Boundary), ThreadRow> = Rows::new(TableId::Thread);

/// What the search index is to forget: rooms and events that have been removed, by when they were, in milliseconds
/// since 1970. And what it is to take in though the log does not tell of it: events that came in the past of a room, with
/// [`LATE`] before their ids.
pub const FORGOTTEN_TEXTS: Rows<(u64, String), ()> = Rows::new(TableId::ForgottenText);
/// Comes before the ids of events in [`FORGOTTEN_TEXTS`] that are not to be forgotten but taken in.
pub const LATE: &str = "+";

/// Files by the events that show them: those of this server by their media ids, others by `SERVER/ID`.
pub const MEDIA_USES: Rows<(String, OwnedEventId), ()> = Rows::new(TableId::MediaUse);
/// Files that were shown by what is gone, with who sent that.
pub const MEDIA_LET_GO: Rows<MediaAddress, OwnedUserId> = Rows::new(TableId::MediaLetGo);
/// Rooms that are being removed: how far that has come.
pub const REMOVALS: Rows<(OwnedRoomId,), RemovalRow> = Rows::new(TableId::RoomRemoval);
/// Rooms that users of this server may not come into, with when that was said, in milliseconds since 1970.
pub const BLOCKED: Rows<(OwnedRoomId,), u64> = Rows::new(TableId::BlockedRoom);
/// Rooms whose guests are to be looked at, because the room may want none any more; with what the room had been
/// written to by then (its serial number).
pub const GUEST_ROOMS: Rows<(OwnedRoomId,), u64> = Rows::new(TableId::GuestRoom);
/// Rooms whose members everybody may find; the search keeps them.
pub const OPEN_ROOMS: Rows<(OwnedRoomId,), ()> = Rows::new(TableId::OpenRoom);
/// Up to where the messages of a room have been looked at whether their time is over.
pub const RETAINED: Rows<(OwnedRoomId,), Position> = Rows::new(TableId::Retained);
/// What is known of the messages of a room from before this server was there; none, when some have come since.
pub const RETAINED_PAST: Rows<(OwnedRoomId,), PastRow> = Rows::new(TableId::RetainedPast);

/// Events of a room (second) that are named as previous ones by events that are here, and are not here.
pub const GAPS: Rows<(OwnedRoomId, OwnedEventId), GapRow> = Rows::new(TableId::Gap);

/// Events from before this server was there, by room, the position of the timeline after which they
/// belong, and their order among those.
pub const BACKFILLED: Rows<(OwnedRoomId, Position, u64), OwnedEventId> = Rows::new(TableId::Backfill);

/// Events that stick, by when they do not any more, in milliseconds since the epoch.
pub const STICKY: Rows<(OwnedRoomId, u64, OwnedEventId), ()> = Rows::new(TableId::Sticky);
/// Where a back-filled event has its place: the key of its row in [`BACKFILLED`], without the room.
pub const PLACES: Rows<(OwnedEventId,), (Position, u64)> = Rows::new(TableId::BackfillPlace);

/// Events of a room that could not be judged when they came, by what they are to it (see [`Part`]).
pub const UNJUDGED: Rows<(OwnedRoomId, u64, OwnedEventId), UnjudgedRow> = Rows::new(TableId::Unjudged);

/// When the events of a room are tried again that could not be judged, each part by itself.
pub const RETRIES: Rows<(OwnedRoomId, u64), RetryRow> = Rows::new(TableId::UnjudgedRetry);

/// State events of a room that were found good after states had been made without them: they belong into
/// every such state in which nothing else stands in their place.
pub const AMENDMENTS: Rows<(OwnedRoomId, OwnedEventId), AmendmentRow> = Rows::new(TableId::Amendment);

/// Rooms that a user of ours has joined without most of their members.
pub const PARTIAL: Rows<(OwnedRoomId,), PartialRow> = Rows::new(TableId::Partial);

/// Where rooms became whole that had begun without most of their members.
pub const GROWN: Rows<(OwnedRoomId, Position), ()> = Rows::new(TableId::Grown);

/// What other servers are yet to be told of a user who has left a room that this server is not in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FarewellRow {
    /// The user's invite or knock.
    pub before: OwnedEventId,
    /// Who may take the user's leave.
    pub servers: Vec<OwnedServerName>,
    /// The content of the leave.
    pub content: Map<String, Value>,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// When they are told again, in milliseconds since the epoch.
    pub retry_at_ms: u64,
    /// How often nobody was reached.
    pub failures: u32,
}

/// A room as it is now. Every commit that moves it expects the row to be as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Counts the changes of this row, so that no two of its values are alike.
    pub serial: u64,
    /// The room version.
    pub version: RoomVersionId,
    /// The create event.
    pub create: OwnedEventId,
    /// The forward extremities.
    pub heads: Vec<HeadRow>,
    /// The current state.
    #[serde(serialize_with = "write_state", deserialize_with = "read_state")]
    pub state: StateId,
    /// How many users are joined.
    pub joined: u64,
    /// How many users are invited.
    pub invited: u64,
    /// How many of the joined users are of other servers.
    pub remote: u64,
    /// How many rows of [`GAPS`] the room has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaps: u64,
    /// The depth of the join by which this server last came into the room; 0 if it has always been there. What lies
    /// before is no news.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entry_depth: u64,
    /// Until when the room has events in [`STICKY`], in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sticky_until_ms: u64,
    /// How many rows of [`AMENDMENTS`] the room has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub amended: u64,
    /// Most members are not known yet; see [`PARTIAL`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The room has rows in [`GROWN`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grown: bool,
}

impl RoomRow {
    /// A room of which nothing but its create event is known.
    #[must_use]
    pub fn new(version: RoomVersionId, create: OwnedEventId) -> Self {
        Self {
            serial: 0,
            version,
            create,
            heads: Vec::new(),
            state: StateId::EMPTY,
            joined: 0,
            invited: 0,
            remote: 0,
            gaps: 0,
            entry_depth: 0,
            sticky_until_ms: 0,
            amended: 0,
            partial: false,
            grown: false,
        }
    }

    /// The rules of the room's version.
    #[must_use]
    pub fn rules(&self) -> &'static ruma::room_version_rules::RoomVersionRules {
        versions::rules(&self.version).expect("only rooms of supported versions are stored")
    }

    /// The heads as a new event names them.
    #[must_use]
    pub fn build_heads(&self) -> Vec<Head> {
        let head =
            |head: &HeadRow| Head { event_id: head.id.clone(), depth: head.depth, sha256: head.hash.clone() };
        self.heads.iter().map(head).collect()
    }
}

/// A forward extremity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// The event.
    pub id: OwnedEventId,
    /// Its depth.
    pub depth: u64,
    /// Its reference hash, in room versions 1 and 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl From<Head> for HeadRow {
    fn from(head: Head) -> Self {
        Self { id: head.event_id, depth: head.depth, hash: head.sha256 }
    }
}

/// An event that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRow {
    /// An event that follows it.
    pub child: OwnedEventId,
    /// The depth of that event.
    pub depth: u64,
    /// The position after which what fills the gap belongs; none if it is the one right before `child`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Position>,
}

/// What an event that could not be judged is to its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Something that happened.
    News,
    /// Part of a state, or of the auth chain of one, that another server gave.
    State,
    /// Not waiting for a judgement any more: a late part of the state; see [`AMENDMENTS`].
    Amendment,
    /// Not waiting for a judgement: the members of a room that was joined without them; see [`PARTIAL`].
    Members,
    /// Not waiting for a judgement: the heads of a room that has many.
    Heads,
}

impl Part {
    /// The number in keys.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::News => 0,
            Self::State => 1,
            Self::Amendment => 2,
            Self::Members => 3,
            Self::Heads => 4,
        }
    }
}

/// An event that could not be judged when it came, because keys or events that it needs could not be had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnjudgedRow {
    /// Who gave it.
    pub origin: OwnedServerName,
    /// The event as it came, without its `unsigned`.
    pub text: Box<RawValue>,
    /// When it came, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Whether it belongs into the state, and not only into the auth chain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_state: bool,
}

/// How the attempts stand to judge what could not be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRow {
    /// How often it was tried in vain.
    pub failures: u32,
    /// When it is tried again, in milliseconds since the epoch.
    pub retry_at_ms: u64,
    /// Random, and another whenever more has come, so that whoever has tried what was there before notices.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mark: u64,
}

/// A room without most of its members, or one that had been and has users of ours who are to leave it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialRow {
    /// Our join, before which the members are to be known.
    pub join: OwnedEventId,
    /// Who let us in.
    pub origin: OwnedServerName,
    /// Who is in the room, as they say.
    pub servers: BTreeSet<OwnedServerName>,
    /// Users of ours who had left before the join. Those whom others have in the room, not having heard of it, leave again
    /// once all members are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leavers: BTreeSet<OwnedUserId>,
}

/// A late part of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmendmentRow {
    /// When it was found good, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// Where an alias points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who made the alias and may remove it.
    pub creator: OwnedUserId,
}

/// A room in the public directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRow {
    /// Who published it.
    pub by: OwnedUserId,
}

/// What an invited or knocking user may know of the room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StrippedRow {
    /// The stripped state events, and since room version 12 the whole create event.
    pub state: Vec<Box<RawValue>>,
    /// Servers that are in the room, where this server is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<OwnedServerName>,
}

/// One event that relates to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// The relating event.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: String,
    /// Its sender.
    pub sender: OwnedUserId,
    /// The key of an annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What is known of the age of a room's past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRow {
    /// All of it has been looked at.
    pub whole: bool,
    /// When the oldest message that is left was sent, in milliseconds since 1970.
    pub oldest_ms: u64,
}

/// How far the removal of a room has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRow {
    /// What is being done.
    pub stage: RemovalStage,
    /// Whether what was said in the room goes, or only its members.
    pub purge: bool,
    /// Whether the room goes although some of its members cannot leave it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// The room to which its members of this server go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<OwnedRoomId>,
    /// When it was wanted, in milliseconds since 1970.
    pub began_ms: u64,
    /// The head then: what came after it are the last words of the members, which other servers are to get.
    pub began: Position,
    /// The last event that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OwnedEventId>,
    /// How many events have been removed.
    pub removed: u64,
    /// Why the last attempt to go on has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the removal of a room is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalStage {
    /// Users of this server leave the room.
    #[default]
    Leaving,
    /// Nobody knows the room any more; its events go.
    Events,
    /// What the members said last is kept until other servers have it.
    Parting,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_false(value: &bool) -> bool {
    !value
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The first event, to which the others relate.
    pub root: OwnedEventId,
    /// The latest event.
    pub latest: OwnedEventId,
    /// How many events relate to the root.
    pub count: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn write_state<S: Serializer>(state: &StateId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(state.0)))
}

fn read_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StateId, D::Error> {
    let text = String::deserialize(deserializer)?;
    u128::from_str_radix(&text, 16).map(|number| StateId(number.to_be_bytes())).map_err(D::Error::custom)
}
