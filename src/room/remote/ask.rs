//! Whom to ask, and what to make of a refusal.

use http::StatusCode;
use ruma::{OwnedServerName, RoomId, UserId};

use crate::{
    limits::{REMOTE_MEMBER_SERVERS_MAX, REMOTE_REFUSALS_MAX, REMOTE_SERVERS_MAX},
    peer::PeerError,
    room::{RoomError, Rooms},
    store::StoreError,
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
    ) -> Result<Vec<OwnedServerName>, StoreError> {
        let history = &self.0.history;
        let mut found: Vec<OwnedServerName> = via.to_vec();
        if let Some(standing) = history.standing(user, room).await?
            && let Some(event) = history.event(&standing.event_id).await?
        {
            found.push(event.pdu.sender().server_name().to_owned());
        }
        found.extend(history.stripped_via(user, room).await?);
        found.extend(room.server_name().map(ToOwned::to_owned));
        let members = history.servers_by_members(room).await?;
        found.extend(members.into_iter().take(REMOTE_MEMBER_SERVERS_MAX));
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
}

/// Why servers did not help, one after the other.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: usize,
    best: Option<RoomError>,
}

impl Refusals {
    /// Takes note of a failure. Gives it back when asking others is pointless.
    pub(super) fn note(&mut self, error: RoomError) -> Result<(), RoomError> {
        if matches!(error, RoomError::Store(_) | RoomError::Closed) {
            return Err(error);
        }
        if is_verdict(&error) {
            self.count += 1;
        }
        if self.best.as_ref().is_none_or(|best| is_verdict(&error) && !is_verdict(best)) {
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

/// Whether a server that is in the room has said that the user may not.
fn is_verdict(error: &RoomError) -> bool {
    matches!(error, RoomError::Refused { status, .. } if *status == StatusCode::FORBIDDEN)
        || matches!(error, RoomError::Forbidden(_))
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
