//! Whom to ask, and what to make of a refusal.

use http::StatusCode;
use ruma::{
    OwnedServerName, RoomId, UserId,
    api::{OutgoingRequest, error::ErrorKind, path_builder::SinglePath},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    limits::{
        HANDSHAKE_MAX, ID_BYTES_MAX, REMOTE_MEMBER_SERVERS_MAX, REMOTE_REFUSALS_MAX, REMOTE_SERVERS_MAX,
    },
    peer::{Bounds, Hedge, PeerError, Proof},
    room::{RoomError, Rooms},
};

impl Rooms {
    /// Servers that may help `user` with `room`, best first: those that the client names, that of whoever
    /// has invited the user, that of the room's id, those known to be in it. Those that do not answer at
    /// the moment come last.
    pub(super) async fn sources(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>, RoomError> {
        // ruma lets ids of any length pass; nobody shall be asked about what cannot be.
        if room.as_bytes().len() > ID_BYTES_MAX {
            return Err(RoomError::invalid("The room id is too long"));
        }
        let history = &self.0.history;
        let mut found: Vec<OwnedServerName> = via.to_vec();
        if let Some(standing) = history.standing(user, room).await?
            && let Some(event) = history.event(&standing.event_id).await?
        {
            found.push(event.pdu.sender().server_name().to_owned());
        }
        found.extend(history.stripped_via(user, room).await?);
        let names_another = via.iter().any(|server| server != history.server());
        if !names_another || self.is_here(room).await? {
            // Nobody has said where to ask, or we know it ourselves.
            found.extend(room.server_name().map(ToOwned::to_owned));
            let members = history.servers_by_members(room).await?;
            found.extend(members.into_iter().take(REMOTE_MEMBER_SERVERS_MAX));
        }
        let mut servers: Vec<OwnedServerName> = Vec::new();
        for server in found {
            if server != history.server() && !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.truncate(REMOTE_SERVERS_MAX);
        servers.sort_by_key(|server| self.0.peers.is_down(server));
        Ok(servers)
    }

    /// The next template for an event of ours that comes, or why one does not; nothing when all have been asked. After
    /// `until` no more are asked.
    pub(super) async fn next_template<R>(
        &self,
        hedge: &mut Hedge<R::IncomingResponse>,
        request: &R,
        until: Instant,
    ) -> Option<(OwnedServerName, Result<R::IncomingResponse, RoomError>)>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Clone + Send + 'static,
    {
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let (server, template) = timeout_at(until, hedge.call(request, bounds)).await.ok()??;
        Some((server, template.map_err(RoomError::from)))
    }
}

/// Why servers did not help, one after the other.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: usize,
    best: Option<RoomError>,
}

impl Refusals {
    /// What this server would answer by itself; only a verdict of others is more telling.
    pub(super) fn after(own: RoomError) -> Self {
        Self { count: 0, best: Some(own) }
    }

    /// Takes note of a failure. Gives it back when asking others is pointless.
    pub(super) fn note(&mut self, error: RoomError) -> Result<(), RoomError> {
        if matches!(error, RoomError::Store(_) | RoomError::Closed) {
            return Err(error);
        }
        let weight = weight(&error);
        if weight == Weight::Verdict {
            self.count += 1;
        }
        if self.best.as_ref().is_none_or(|best| weight > self::weight(best)) {
            self.best = Some(error);
        }
        match self.count >= REMOTE_REFUSALS_MAX {
            true => Err(std::mem::take(self).into_error()),
            false => Ok(()),
        }
    }

    /// The most telling of the failures.
    pub(super) fn into_error(self) -> RoomError {
        self.best.unwrap_or(RoomError::NotFound("No server is known that could help with the room"))
    }
}

/// How much a failure says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// The server could not be asked, or knows nothing of the room.
    Nothing,
    /// The user might get in, but that server cannot do it.
    Inability,
    /// The user may not.
    Verdict,
}

fn weight(error: &RoomError) -> Weight {
    match error {
        RoomError::Forbidden(_) => Weight::Verdict,
        RoomError::Refused { status, .. } if *status == StatusCode::FORBIDDEN => Weight::Verdict,
        RoomError::UnableToGrantJoin
        | RoomError::Refused {
            errcode: ErrorKind::UnableToGrantJoin | ErrorKind::UnableToAuthorizeJoin,
            ..
        } => Weight::Inability,
        _ => Weight::Nothing,
    }
}

impl From<PeerError> for RoomError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Refused { status, errcode, message } if status.is_client_error() => {
                Self::Refused { status, errcode, message }
            }
            error => Self::Unreachable(error.to_string()),
        }
    }
}
