//! Identity servers: they know whose an address is, keep invites of those whom nobody knows, and tell others of the
//! addresses that our users have bound.
//!
//! Owns: the table `BoundAddress`, and all that is asked of identity servers. May use: `types`, `limits`, `store`, `log`,
//! `keys`, `peer`. Start reading at [`Identity`]. Invariants: only those are asked that the operator names; the token of a
//! user goes to the server that the user names with it and into no log; what comes back is bounded, and checked
//! before it reaches a room.
//!
//! <https://spec.matrix.org/v1.19/identity-service-api/>

mod address;
mod ask;
mod bound;
mod error;
mod invite;
mod lookup;
mod vouch;

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, sync::Arc};

use ruma::{OwnedServerName, ServerName};

pub use address::Address;
pub use bound::Unbound;
pub use error::IdentityError;
pub use invite::{Invitation, Kept};

use crate::{keys::SigningKey, log::Log, peer::Net};

/// An identity server as a user names it, and what lets them in there. Not to be printed.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// Its name.
    pub server: &'a str,
    /// The user's token there.
    pub token: &'a str,
}

/// Asks identity servers. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    net: Arc<dyn Net>,
    log: Log,
    key: Arc<SigningKey>,
    servers: Vec<OwnedServerName>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.servers).finish()
    }
}

impl Identity {
    /// Asks `servers` through `net`, in the name of the server that `key` belongs to.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, log: Log, key: Arc<SigningKey>, servers: Vec<OwnedServerName>) -> Self {
        Self(Arc::new(Inner { net, log, key, servers }))
    }

    /// Whether any may be asked.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.0.servers.is_empty()
    }

    /// The server of this name.
    ///
    /// # Errors
    /// [`IdentityError::NotTrusted`], unless the operator has named it.
    pub fn trusted(&self, name: &str) -> Result<&ServerName, IdentityError> {
        let found = self.0.servers.iter().find(|server| server.as_str().eq_ignore_ascii_case(name));
        found.map(|server| &**server).ok_or(IdentityError::NotTrusted)
    }
}
