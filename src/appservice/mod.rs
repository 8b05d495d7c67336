//! Application services: what the operator has registered, and what of it belongs to whom.
//!
//! Owns: the registrations in memory: those of the configuration, read once at the start, and those that are added
//! while the server runs; nothing stored. May use: `types`, `limits`. Start reading at [`Appservices`]. `delivery`
//! brings them their transactions and keeps those that were added, `http` lets them in. Invariants: no two have the
//! same id or token; a namespace that is exclusive keeps everybody else out.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/>

mod error;
mod namespace;
mod registration;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use ruma::{OwnedUserId, RoomAliasId, RoomId, ServerName, UserId};

pub use error::RegistrationError;
pub use namespace::Namespaces;
pub use registration::{Kept, Registration, TokenHash};

/// One application service.
#[derive(Debug)]
pub struct Appservice {
    /// What the operator has written.
    pub registration: Registration,
    /// Stands for the token with which it comes to us.
    pub as_token: TokenHash,
    /// Users, aliases and rooms that are its own or that it wants to hear of.
    pub namespaces: Namespaces,
    /// The user in whose name it acts by itself.
    pub sender: OwnedUserId,
    /// Where its registration is.
    pub origin: Origin,
}

/// Where a registration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file that the configuration names.
    File,
    /// In the store: it was added while the server ran.
    Store,
}

impl PartialEq for Appservice {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.registration.id)
    }
}

impl Eq for Appservice {}

impl AsRef<Self> for Appservice {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Appservice {
    /// Whether `user` is in its namespaces. Users of other servers are not, whatever its expressions say: they are nobody's here.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#definition-namespace>
    #[must_use]
    pub fn owns(&self, user: &UserId) -> bool {
        user == self.sender || self.is_local(user) && self.namespaces.users.matches(user.as_str())
    }

    /// Whether it has `user` for itself.
    #[must_use]
    pub fn keeps(&self, user: &UserId) -> bool {
        user == self.sender || self.is_local(user) && self.namespaces.users.keeps(user.as_str())
    }

    fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.sender.server_name()
    }

    /// Whether it has asked for everything of this room.
    #[must_use]
    pub fn wants_room(&self, room: &RoomId) -> bool {
        self.namespaces.rooms.matches(room.as_str())
    }

    /// Whether `id` is its id.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.registration.id == id
    }
}

/// All application services. Cheap to clone: clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Appservices(Arc<RwLock<All>>);

/// Nothing in it changes: when one comes or goes there is another list.
type All = Arc<Vec<Arc<Appservice>>>;

impl Appservices {
    /// Reads the registrations in `paths`: files, or folders whose `*.yaml` and `*.yml` are read. One that cannot be used is
    /// logged and left out, so that it takes down neither the server nor the others.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub fn read(paths: &[PathBuf], server: &ServerName) -> Result<Self, RegistrationError> {
        let mut all = Vec::new();
        for file in registration::files(paths)? {
            let read = Registration::read(&file).and_then(|registration| {
                let opened = registration.open(server).map_err(|why| RegistrationError::new(&file, why))?;
                clash(&all, &opened).map_or(Ok(opened), |why| Err(RegistrationError::new(&file, why)))
            });
            match read {
                Ok(appservice) => all.push(appservice),
                Err(error) => tracing::error!(%error, "an application service is not served: {error}"),
            }
        }
        Self::new(all)
    }

    /// These application services.
    ///
    /// # Errors
    /// When two of them have the same id or token.
    pub fn new(all: Vec<Appservice>) -> Result<Self, RegistrationError> {
        for (index, appservice) in all.iter().enumerate() {
            if let Some(why) = clash(&all[..index], appservice) {
                return Err(RegistrationError::new(&appservice.registration.id, why));
            }
        }
        Ok(Self(Arc::new(RwLock::new(Arc::new(all.into_iter().map(Arc::new).collect())))))
    }

    /// Whether [`Self::add`] would take `new` in.
    ///
    /// # Errors
    /// When another one has the same token.
    pub fn check(&self, new: &Appservice) -> Result<(), RegistrationError> {
        let others: Vec<_> = self.0.read().iter().filter(|it| *it.as_ref() != *new).cloned().collect();
        clash(&others, new).map_or(Ok(()), |why| Err(RegistrationError::new(&new.registration.id, why)))
    }

    /// Takes one more in; one with the same id goes.
    ///
    /// # Errors
    /// When another one has the same token.
    pub fn add(&self, new: Arc<Appservice>) -> Result<(), RegistrationError> {
        let mut list = self.0.write();
        let mut all: Vec<_> = list.iter().filter(|it| **it != new).cloned().collect();
        if let Some(why) = clash(&all, &new) {
            return Err(RegistrationError::new(&new.registration.id, why));
        }
        all.push(new);
        *list = Arc::new(all);
        Ok(())
    }

    /// Forgets the one whose id is `id`.
    pub fn remove(&self, id: &str) {
        let mut list = self.0.write();
        *list = Arc::new(list.iter().filter(|it| !it.is(id)).cloned().collect());
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// All of them, as of now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Appservice>> {
        self.0.read().to_vec()
    }

    /// The one whose id is `id`.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<Appservice>> {
        self.0.read().iter().find(|it| it.is(id)).cloned()
    }

    /// The one whose `as_token` is `token`.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<Arc<Appservice>> {
        let token = TokenHash::of(token);
        self.0.read().iter().find(|it| it.as_token.is(&token)).cloned()
    }

    /// Whether `by` may act in the name of `user`, a local one. Where it shares them with everybody, another one may still
    /// have them for itself.
    #[must_use]
    pub fn may_act_as(&self, by: &Appservice, user: &UserId) -> bool {
        by.owns(user) && (by.keeps(user) || !self.keeps_user(user, Some(by)))
    }

    /// Whether `user` belongs to another one than `to`, who may be nobody.
    #[must_use]
    pub fn keeps_user(&self, user: &UserId, to: Option<&Appservice>) -> bool {
        self.is_any_other(to, |it| it.keeps(user))
    }

    /// The one that has `user`, a local one, for itself, and whose registration is such.
    #[must_use]
    pub fn keeper(&self, user: &UserId, is_such: impl Fn(&Registration) -> bool) -> Option<Arc<Appservice>> {
        self.0.read().iter().find(|it| is_such(&it.registration) && it.keeps(user)).cloned()
    }

    /// Whether `alias` belongs to another one than `to`, who may be nobody.
    #[must_use]
    pub fn keeps_alias(&self, alias: &RoomAliasId, to: Option<&Appservice>) -> bool {
        self.is_any_other(to, |it| it.namespaces.aliases.keeps(alias.as_str()))
    }

    /// Who may know more of a user that this server does not know.
    #[must_use]
    pub fn of_user(&self, user: &UserId) -> Vec<Arc<Appservice>> {
        self.0.read().iter().filter(|it| it.namespaces.users.matches(user.as_str())).cloned().collect()
    }

    /// Who may know more of an alias that this server does not know.
    #[must_use]
    pub fn of_alias(&self, alias: &RoomAliasId) -> Vec<Arc<Appservice>> {
        self.0.read().iter().filter(|it| it.namespaces.aliases.matches(alias.as_str())).cloned().collect()
    }

    fn is_any_other(&self, to: Option<&Appservice>, keeps: impl Fn(&Appservice) -> bool) -> bool {
        self.0.read().iter().filter(|it| to != Some(&***it)).any(|it| keeps(it))
    }
}

/// What another one has that must be an application service's own.
fn clash<T: AsRef<Appservice>>(known: &[T], new: &Appservice) -> Option<String> {
    let known = known.iter().map(AsRef::as_ref);
    let same = |known: &Appservice| {
        [
            ("id", known.is(&new.registration.id)),
            ("as_token", known.as_token.is(&new.as_token)),
            ("hs_token", known.registration.hs_token == new.registration.hs_token),
        ]
        .into_iter()
        .find_map(|(kind, is_same)| is_same.then_some(kind))
    };
    known.into_iter().find_map(same).map(|kind| format!("another one has the same `{kind}`"))
}
