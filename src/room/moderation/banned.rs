//! Whom and what the policy lists ban at a moment.

use std::{fmt, sync::Arc};

use ruma::{OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};

use super::rules::{Kind, Rules};
use crate::room::{RoomError, Rooms, state::aliases};

/// Whom and what the policy lists of this server ban. Users of this server are never among them, nor is it itself.
#[derive(Clone)]
pub struct Banned {
    pub(super) lists: Vec<Arc<Rules>>,
    pub(super) ours: OwnedServerName,
}

impl fmt::Debug for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Banned").field("lists", &self.lists.len()).finish()
    }
}

impl Banned {
    /// Whether a user is banned, or their server.
    #[must_use]
    pub fn has_user(&self, user: &UserId) -> bool {
        user.server_name() != self.ours
            && (self.fits(Kind::User, user.as_str()) || self.has_server(user.server_name()))
    }

    /// Whether a server is banned.
    #[must_use]
    pub fn has_server(&self, server: &ServerName) -> bool {
        if self.lists.is_empty() || *server == self.ours {
            return false;
        }
        let [whole, host] = names(server);
        self.fits(Kind::Server, &whole) || (host != whole && self.fits(Kind::Server, &host))
    }

    /// Whether a room is banned by its id, or the server that has made it, if its id tells.
    #[must_use]
    pub fn has_room(&self, room: &RoomId) -> bool {
        self.fits(Kind::Room, room.as_str())
            || room.server_name().is_some_and(|server| self.has_server(server))
    }

    /// Whether an alias is banned, or the server that it belongs to.
    #[must_use]
    pub fn has_alias(&self, alias: &RoomAliasId) -> bool {
        self.fits(Kind::Room, alias.as_str()) || self.has_server(alias.server_name())
    }

    fn fits(&self, kind: Kind, entity: &str) -> bool {
        self.lists.iter().any(|list| list.ban(kind, entity))
    }
}

/// What globs of servers are held against, in small letters: the name with its port, and the host alone.
pub(super) fn names(server: &ServerName) -> [String; 2] {
    [server.as_str(), server.host()].map(str::to_lowercase)
}

impl Rooms {
    /// Whether a room is banned: by its id, by an alias that this server has for it, or by one by which it goes.
    pub(super) async fn is_banned(&self, banned: &Banned, room: &RoomId) -> Result<bool, RoomError> {
        if banned.lists.is_empty() {
            return Ok(false);
        }
        let history = &self.0.history;
        if banned.has_room(room) || history.aliases(room).await?.iter().any(|alias| banned.has_alias(alias)) {
            return Ok(true);
        }
        let Some(state) = history.current_state(room).await? else { return Ok(false) };
        let named = history.state_event(state, "m.room.canonical_alias".into(), "").await?;
        let named = named.and_then(|event| aliases(event.pdu.content()).ok()).unwrap_or_default();
        Ok(named.iter().any(|alias| banned.has_alias(alias)))
    }
}
