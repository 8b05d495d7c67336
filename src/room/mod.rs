//! The verbs of rooms: create, say, set state, redact, invite, join, leave, knock, kick, ban, upgrade,
//! and what goes with them: aliases and the public directory; and what the server itself keeps from its users.
//!
//! Owns: the order in which a room changes. May use: everything down to `history`, and `account`.
//! Start reading at [`Rooms`], then `turn`: a verb takes the room, adds events, and finishes in one
//! commit; when another was faster it begins anew. Invariants: an event that the rules of the room do
//! not allow is never written; memberships, subscriptions and counts of members follow from the
//! difference of states, in the commit that makes it; a delayed event is sent once.

mod address;
mod alias;
mod create;
mod delayed;
mod empower;
mod error;
mod expire;
mod guard;
mod guest;
mod ingest;
mod join;
mod membership;
mod moderation;
mod policy;
mod power_levels;
mod profile;
mod record;
mod redact;
mod reject;
mod relation;
mod remote;
mod remove;
mod send;
mod set_member;
mod setback;
mod state;
mod stripped;
mod sweep;
mod template;
mod turn;
mod upgrade;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use ruma::{MilliSecondsSinceUnixEpoch, RoomId, UInt, UserId};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub use create::NewRoom;
pub use delayed::{Action, Delayed, DelayedError, Intent, Outcome, Row as DelayedRow};
pub use error::RoomError;
pub use ingest::{Graft, ReceiveFailure};
pub use moderation::{Banned, Inviters, ModerationSettings};
pub use reject::{InvitedBy, Rejected};
pub use remote::{Invitation, read_signed_invite};
pub use send::{Message, Txn};
pub use template::Template;

use crate::{
    account::{Inheritance, Verdict},
    history::History,
    keys::SigningKey,
    peer::Peers,
    store::{BoxFuture, StoreError},
    types::Ports,
};

/// Does a thing again when another request was faster, some times.
macro_rules! until_settled {
    ($attempt:expr) => {{
        let mut left = $crate::limits::ROOM_CONFLICTS_MAX;
        loop {
            match $attempt.await {
                Err($crate::room::RoomError::Conflict) if left > 0 => left -= 1,
                settled => break settled,
            }
        }
    }};
}
use until_settled;

/// How a user wants to be called in rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `displayname`.
    pub displayname: Option<String>,
    /// `avatar_url`.
    pub avatar_url: Option<String>,
}

/// Knows how local users want to be called. The accounts of a server do.
pub trait Profiles: Send + Sync + 'static {
    /// The profile of a local user; empty if there is none.
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Profile, StoreError>>;

    /// What becomes of an invite of a local user by `inviter`, by the word of the user.
    fn judge_invite<'a>(
        &'a self,
        _user: &'a UserId,
        _inviter: &'a UserId,
    ) -> BoxFuture<'a, Result<Verdict, StoreError>> {
        Box::pin(async { Ok(Verdict::Allow) })
    }

    /// Whether a local user is bound by no policy of the server: an administrator, or who tells users what the server
    /// has to say.
    fn is_above_policy<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// Whether a local user is a guest, who may not join every room.
    fn is_guest<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// What a local user who joins `new` takes along from `old`, which it replaces; to be written with
    /// the join.
    fn inheritance<'a>(
        &'a self,
        _user: &'a UserId,
        _old: &'a RoomId,
        _new: &'a RoomId,
    ) -> BoxFuture<'a, Result<Option<Inheritance>, StoreError>> {
        Box::pin(async { Ok(None) })
    }
}

/// All rooms, to be changed. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>, Manner);

/// How events are written that are not written as usual.
#[derive(Clone, Copy, Debug, Default)]
struct Manner {
    /// When, if not now.
    moment: Option<MilliSecondsSinceUnixEpoch>,
    sticky_ms: Option<u64>,
}

struct Inner {
    history: History,
    peers: Peers,
    ports: Ports,
    profiles: Arc<dyn Profiles>,
    slots: Arc<guard::Slots>,
    /// Held while something is fetched for a room.
    fetches: Arc<guard::Slots>,
    /// Held while the members of a room are asked for.
    completions: Arc<guard::Slots>,
    /// Held while users of ours join a room through another server, one after the other.
    joins: Arc<guard::Slots>,
    /// Woken when there is something that could not be judged.
    unjudged: Notify,
    /// Woken when a room has become whole.
    completed: Notify,
    /// Woken when a room may want no more guests.
    guests: Notify,
    /// Woken when other servers could not be told of a rejected invite.
    farewells: Notify,
    tasks: TaskTracker,
    /// The latest moment that a create event of ours bears.
    last_founded: AtomicU64,
    /// Whether kicks and bans may take back what their user has said.
    sweeps: AtomicBool,
    /// What is kept from users.
    moderation: OnceLock<moderation::Moderation>,
    /// How often a resolution has taken away what had stood.
    setbacks: setback::Setbacks,
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}

impl Rooms {
    /// The rooms of `history`, shared with `peers`.
    #[must_use]
    pub fn new(
        history: History,
        peers: Peers,
        ports: Ports,
        profiles: Arc<dyn Profiles>,
        tasks: TaskTracker,
    ) -> Self {
        let inner = Inner {
            history,
            peers,
            ports,
            profiles,
            slots: Arc::default(),
            fetches: Arc::default(),
            completions: Arc::default(),
            joins: Arc::default(),
            unjudged: Notify::new(),
            completed: Notify::new(),
            guests: Notify::new(),
            farewells: Notify::new(),
            tasks,
            last_founded: AtomicU64::new(0),
            sweeps: AtomicBool::new(false),
            moderation: OnceLock::new(),
            setbacks: Default::default(),
        };
        Self(Arc::new(inner), Manner::default())
    }

    /// The same rooms, to be changed at another time than the present, if one is given: what is written bears
    /// that time, though it takes its place after everything else.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#timestamp-massaging>
    #[must_use]
    pub fn dated(&self, moment: Option<MilliSecondsSinceUnixEpoch>) -> Self {
        Self(self.0.clone(), Manner { moment, ..self.1 })
    }

    /// The same rooms; what is said in them is told for so long to those who come later.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>
    #[must_use]
    pub fn sticky(&self, sticky_ms: Option<u64>) -> Self {
        Self(self.0.clone(), Manner { sticky_ms, ..self.1 })
    }

    /// The time that events bear.
    fn moment(&self) -> MilliSecondsSinceUnixEpoch {
        let now = || UInt::try_from(self.0.ports.clock.now_ms()).unwrap_or(UInt::MAX);
        self.1.moment.unwrap_or_else(|| MilliSecondsSinceUnixEpoch(now()))
    }

    /// The read side.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// The key with which this server signs.
    fn key(&self) -> &SigningKey {
        self.0.peers.signing_key()
    }

    /// Whether a user of this server is in `room`, so that it has the room's events.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_here(&self, room: &RoomId) -> Result<bool, StoreError> {
        Ok(self.0.history.room(room).await?.is_some_and(|row| row.joined > row.remote))
    }
}

#[cfg(test)]
mod tests;
