//! Lanes, facts and readers: who is told what.

use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

/// A named subsequence of the log: the unit a reader subscribes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// What joined local users see of a room.
    Room(OwnedRoomId),
    /// What this server owes the other servers of a room.
    Egress(OwnedRoomId),
    /// What concerns one local account, whatever the room.
    Account(OwnedUserId),
    /// To-device messages for one local device. One reader.
    Inbox(OwnedUserId, OwnedDeviceId),
    /// Messages addressed to one remote server. One reader.
    Outbox(OwnedServerName),
    /// Changes to users' device lists and cross-signing keys, and presence, local and remote.
    People,
    /// Changes to the profiles of local users.
    Profiles,
}

/// A membership as the specification names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Invited to the room.
    Invite,
    /// In the room.
    Join,
    /// Has asked to be let in.
    Knock,
    /// Was in, was invited or has knocked, and is not any more.
    Leave,
    /// Banned from the room.
    Ban,
}

impl Membership {
    /// The word used in `m.room.member` events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave => "leave",
            Self::Ban => "ban",
        }
    }

    /// The membership that `word` names, if it names one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Invite, Self::Join, Self::Knock, Self::Leave, Self::Ban]
            .into_iter()
            .find(|m| m.as_str() == word)
    }
}

/// Which kind of read receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReceiptKind {
    /// `m.read`: seen by everyone in the room.
    Read,
    /// `m.read.private`: seen by the user's own devices.
    ReadPrivate,
}

/// One deliverable thing.
///
/// It names stored objects where they are stored elsewhere; what has no other home (a typing list, a
/// receipt, a to-device message) is carried whole. Variants are only ever added at the end: their
/// order is the encoding on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// An event entered the timeline of a room.
    Event {
        /// The event.
        event_id: OwnedEventId,
    },
    /// The current state of a room moved without an event of its own (a fork was resolved).
    StateMoved,
    /// A user has read up to an event.
    Receipt {
        /// Public or private.
        kind: ReceiptKind,
        /// The reader.
        user_id: OwnedUserId,
        /// The room, since private receipts travel in the `Account` lane.
        room_id: OwnedRoomId,
        /// `main`, a thread root, or nothing for an unthreaded receipt.
        thread_id: Option<String>,
        /// The event that was read.
        event_id: OwnedEventId,
        /// When, in milliseconds since the epoch.
        ts: u64,
    },
    /// Who is typing in a room now.
    Typing {
        /// The users, in the order in which they began.
        user_ids: Vec<OwnedUserId>,
    },
    /// A local user's membership of a room changed.
    Membership {
        /// The room.
        room_id: OwnedRoomId,
        /// What it is now.
        membership: Membership,
        /// The event that says so.
        event_id: OwnedEventId,
    },
    /// Account data changed; the value is read from its table.
    AccountData {
        /// The room, or nothing for global account data.
        room_id: Option<OwnedRoomId>,
        /// The event type.
        event_type: String,
    },
    /// A to-device message for the device whose `Inbox` this is.
    ToDevice {
        /// The sender.
        sender: OwnedUserId,
        /// The event type.
        event_type: String,
        /// The content, as JSON text.
        content: String,
    },
    /// A user's devices, device keys or cross-signing keys changed.
    Devices {
        /// The user.
        user_id: OwnedUserId,
    },
    /// A device's one-time or fallback keys changed; only wakes, the counts are read when rendering.
    KeyCounts,
    /// A user's presence, as the content of an `m.presence` event in JSON text.
    Presence {
        /// The user.
        user_id: OwnedUserId,
        /// The content, as JSON text.
        content: String,
    },
    /// An EDU for the server whose `Outbox` this is.
    Edu {
        /// The `edu_type`.
        edu_type: String,
        /// The content, as JSON text.
        content: String,
    },
    /// A PDU for the server whose `Outbox` this is, because no subscription carries it there.
    Directed {
        /// The event.
        event_id: OwnedEventId,
    },
    /// A user wants to be told of a thread, or no longer; the position orders what was said of one thread.
    ThreadSubscription {
        /// The room.
        room_id: OwnedRoomId,
        /// The root of the thread.
        thread_root: OwnedEventId,
        /// Whether the user is subscribed.
        subscribed: bool,
        /// A client did it by itself.
        automatic: bool,
    },
    /// The current state of a room is another one from here on, by what was found out of it and not by an event.
    StateIs {
        /// Its id.
        state: [u8; 16],
    },
    /// A local user's profile changed; which fields of it, and what they are, is read from tables.
    Profile {
        /// The user.
        user_id: OwnedUserId,
    },
    /// What the user of an account may do changed; only wakes, it is read from the user's row.
    Standing,
}

/// Within a lane, names the register that a fact overwrites.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegisterKey(pub Vec<u8>);

impl RegisterKey {
    /// What the registers of all [`Fact::Devices`] of a lane begin with.
    #[must_use]
    pub fn all_devices() -> Self {
        Self(b"d\0".to_vec())
    }

    /// The register of [`Fact::Devices`] of one user.
    #[must_use]
    pub fn devices(user: &UserId) -> Self {
        Self([Self::all_devices().0.as_slice(), user.as_bytes()].concat())
    }

    /// The register of [`Fact::AccountData`] of one type of global account data.
    #[must_use]
    pub fn global_data(event_type: &str) -> Self {
        Self::account_data("", event_type)
    }

    /// The register of [`Fact::ThreadSubscription`] of one thread.
    #[must_use]
    pub fn thread_subscription(room: &RoomId, thread_root: &EventId) -> Self {
        Self(["s", room.as_str(), thread_root.as_str()].join("\0").into_bytes())
    }

    fn account_data(room: &str, event_type: &str) -> Self {
        Self(["a", room, event_type].join("\0").into_bytes())
    }
}

/// How long a fact stays in its lane. A property of the kind of fact, not of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Stays. A slow reader may be given a gap instead: the room's history can be asked for.
    Append,
    /// Only the newest per key stays; writing it removes the older row in the same commit.
    Register(RegisterKey),
    /// Stays until its single reader acknowledges. Never skipped.
    Queue,
    /// A register that lives in memory only.
    Volatile(RegisterKey),
}

impl Fact {
    /// Whether it says that the state of a room has moved otherwise than by an event.
    #[must_use]
    pub fn moves_state(&self) -> bool {
        matches!(self, Self::StateMoved | Self::StateIs { .. })
    }

    /// How long this fact stays in its lane.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let key = |parts: &[&str]| RegisterKey(parts.join("\u{0}").into_bytes());
        match self {
            Self::Event { .. } | Self::StateMoved | Self::StateIs { .. } => Retention::Append,
            Self::Receipt { kind, user_id, room_id, thread_id, .. } => {
                let kind = match kind {
                    ReceiptKind::Read => "m.read",
                    ReceiptKind::ReadPrivate => "m.read.private",
                };
                let thread = thread_id.as_deref().unwrap_or_default();
                Retention::Register(key(&["r", room_id.as_str(), user_id.as_str(), kind, thread]))
            }
            Self::Typing { .. } => Retention::Volatile(key(&["t"])),
            Self::Membership { room_id, .. } => Retention::Register(key(&["m", room_id.as_str()])),
            Self::AccountData { room_id, event_type } => {
                let room = room_id.as_ref().map_or("", |room| room.as_str());
                Retention::Register(RegisterKey::account_data(room, event_type))
            }
            Self::Devices { user_id } => Retention::Register(RegisterKey::devices(user_id)),
            Self::Profile { user_id } => Retention::Register(key(&["f", user_id.as_str()])),
            Self::KeyCounts => Retention::Register(key(&["k"])),
            Self::ThreadSubscription { room_id, thread_root, .. } => {
                Retention::Register(RegisterKey::thread_subscription(room_id, thread_root))
            }
            Self::Presence { user_id, .. } => Retention::Volatile(key(&["p", user_id.as_str()])),
            // Nobody waits over a restart.
            Self::Standing => Retention::Volatile(key(&["l"])),
            Self::ToDevice { .. } | Self::Edu { .. } | Self::Directed { .. } => Retention::Queue,
        }
    }
}

/// Whoever has a cursor over the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reader {
    /// A local device, whose cursor is its sync token.
    Device(OwnedUserId, OwnedDeviceId),
    /// A remote server, whose cursor we keep.
    Server(OwnedServerName),
    /// A pusher of a local user, whose cursor is kept with the pusher.
    Pusher(OwnedUserId),
}
