//! Calls of many, which a LiveKit server (an SFU) carries: who is let into them, and who is not in them any more.
//!
//! Owns: the table `DelegatedLeave`, tokens for the SFU, and what is asked of it. May use: `types`, `limits`, `upkeep`, `store`,
//! `log`, `peer`, `history` and `room`. Start reading at [`Rtc`], then [`delegated`] and [`seats`]. Invariants: a token is given to
//! whoever is in the room and to nobody else, and who has left the room is put out of its calls; a leave is sent for somebody only who was seen in the call.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

mod delegated;
mod error;
mod seat;
mod seats;
mod sfu;
mod token;

pub use error::RtcError;
pub use seat::{Member, Seat};

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{delegated::Watched, seats::Seats, sfu::Sfu};
use crate::{
    history::History,
    peer::Net,
    room::{Delayed, Rooms},
    store::StoreError,
    types::{Membership, Ports},
    upkeep,
};

/// How the SFU is reached, and what both know.
pub struct Settings {
    /// Its address as clients know it: `wss://…`.
    pub url: String,
    /// Its address for this server: `http://…`.
    pub api_url: String,
    /// The name of the key.
    pub key: String,
    /// The secret of the key.
    pub secret: String,
}

/// What somebody who is let in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Speak and listen.
    Publish,
    /// Listen: whoever speaks does so over the SFU of their own server.
    Subscribe,
}

/// The SFU of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rtc(Arc<Inner>);

struct Inner {
    url: String,
    sfu: Sfu,
    history: History,
    rooms: Rooms,
    delayed: Delayed,
    ports: Ports,
    watched: Mutex<Watched>,
    seats: Mutex<Seats>,
    /// Told when there is something to watch for.
    sooner: Notify,
}

impl fmt::Debug for Rtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rtc at {}", self.0.url)
    }
}

impl Rtc {
    /// Reads which leaves wait, and begins to look after them on `tasks`, until `stopping`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(
        settings: Settings,
        net: Arc<dyn Net>,
        (history, rooms, delayed, ports): (History, Rooms, Delayed, Ports),
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Result<Self, StoreError> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let sfu = Sfu::new(settings, net, ports.clone());
        let (watched, seats, sooner) = (Mutex::default(), Mutex::default(), Notify::new());
        let this = Self(Arc::new(Inner { url, sfu, history, rooms, delayed, ports, watched, seats, sooner }));
        this.load().await?;
        let (inner, until) = (Arc::downgrade(&this.0), stopping.clone());
        let looking = move || delegated::run(inner.clone(), until.clone());
        tasks.spawn(upkeep::keep("the look after calls", stopping, looking));
        Ok(this)
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Whether `url` is the address of this SFU.
    #[must_use]
    pub fn is_at(&self, url: &str) -> bool {
        url.trim_end_matches('/') == self.0.url
    }

    /// A token that lets whoever has `seat` into its call, which is made if need be.
    ///
    /// # Errors
    /// When they are not in the room, or the SFU cannot be reached.
    pub async fn token(&self, seat: &Seat, grant: Grant) -> Result<String, RtcError> {
        seat.check()?;
        self.check_joined(seat).await?;
        let room = seat.room_name();
        // Nobody else may make one: who may can also end it for all.
        self.0.sfu.create_room(&room).await?;
        self.let_in(seat, (&room, &seat.identity()), grant)
    }

    /// As [`Self::token`] for clients that know nothing of slots, and that go by the names of users and devices at the
    /// SFU; the call is the one of slot `m.call#ROOM`.
    ///
    /// # Errors
    /// As for [`Self::token`].
    pub async fn token_by_name(&self, seat: &Seat, makes_room: bool) -> Result<String, RtcError> {
        seat.check()?;
        self.check_joined(seat).await?;
        let room = seat.room_name();
        if makes_room {
            self.0.sfu.create_room(&room).await?;
        }
        self.let_in(seat, (&room, &seat.plain_identity()), Grant::Publish)
    }

    fn let_in(&self, seat: &Seat, (call, identity): (&str, &str), grant: Grant) -> Result<String, RtcError> {
        self.hold(call, identity, seat)?;
        Ok(self.0.sfu.join_token(call, identity, grant))
    }

    /// Refuses whoever is not in the room, or comes from another server while this one is not there.
    async fn check_joined(&self, seat: &Seat) -> Result<(), RtcError> {
        let (room, user, history) = (&seat.room_id, &seat.user_id, &self.0.history);
        let is_joined = if history.is_local(user) {
            history.is_joined(room, user).await?
        } else {
            let server = user.server_name();
            // What is known of a room that this server has left is old.
            self.0.rooms.is_here(room).await?
                && history.has_server(room, server).await?
                && history.allows_server(room, server).await?
                && history.membership(room, user).await? == Some(Membership::Join)
        };
        if is_joined { Ok(()) } else { Err(RtcError::NotJoined) }
    }
}
