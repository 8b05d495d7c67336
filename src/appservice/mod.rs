//! Application services: what the operator has registered, and what of it belongs to whom.
//!
//! Owns: the registrations in memory, read once at the start; nothing stored. May use: `types`, `limits`.
//! Start reading at [`Appservices`]. `delivery` brings them their transactions, `http` lets them in.
//! Invariants: no two have the same id or token; a namespace that is exclusive keeps everybody else out.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/>

mod error;
mod namespace;
mod registration;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use ruma::{OwnedUserId, RoomAliasId, RoomId, ServerName, UserId};
use subtle::ConstantTimeEq;

pub use error::RegistrationError;
pub use namespace::Namespaces;
pub use registration::Registration;

/// One application service.
#[derive(Debug)]
pub struct Appservice {
    /// What the operator has written.
    pub registration: Registration,
    /// Users, aliases and rooms that are its own or that it wants to hear of.
    pub namespaces: Namespaces,
    /// The user in whose name it acts by itself.
    pub sender: OwnedUserId,
}

impl PartialEq for Appservice {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.registration.id)
    }
}

impl Eq for Appservice {}

impl Appservice {
    /// Whether it may act in the name of `user`, a local one.
    #[must_use]
    pub fn owns(&self, user: &UserId) -> bool {
        user == self.sender || self.namespaces.users.matches(user.as_str())
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

/// All application services. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Appservices(Arc<Vec<Arc<Appservice>>>);

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
        Ok(Self(Arc::new(all.into_iter().map(Arc::new).collect())))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Appservice>> {
        self.0.iter()
    }

    /// The one whose `as_token` is `token`.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<&Arc<Appservice>> {
        let same = |known: &str| bool::from(known.as_bytes().ct_eq(token.as_bytes()));
        self.0.iter().find(|appservice| same(&appservice.registration.as_token))
    }

    /// Whether `user` belongs to another one than `to`, who may be nobody.
    #[must_use]
    pub fn keeps_user(&self, user: &UserId, to: Option<&Appservice>) -> bool {
        self.others(to).any(|other| user == other.sender || other.namespaces.users.keeps(user.as_str()))
    }

    /// Whether `alias` belongs to another one than `to`, who may be nobody.
    #[must_use]
    pub fn keeps_alias(&self, alias: &RoomAliasId, to: Option<&Appservice>) -> bool {
        self.others(to).any(|other| other.namespaces.aliases.keeps(alias.as_str()))
    }

    /// Who may know more of a user that this server does not know.
    pub fn of_user(&self, user: &UserId) -> impl Iterator<Item = &Arc<Appservice>> {
        self.0.iter().filter(move |it| it.namespaces.users.matches(user.as_str()))
    }

    /// Who may know more of an alias that this server does not know.
    pub fn of_alias(&self, alias: &RoomAliasId) -> impl Iterator<Item = &Arc<Appservice>> {
        self.0.iter().filter(move |it| it.namespaces.aliases.matches(alias.as_str()))
    }

    fn others(&self, to: Option<&Appservice>) -> impl Iterator<Item = &Arc<Appservice>> {
        let id = to.map(|it| it.registration.id.clone());
        self.0.iter().filter(move |other| id.as_ref() != Some(&other.registration.id))
    }
}

/// What another one has that must be an application service's own.
fn clash(known: &[Appservice], new: &Appservice) -> Option<String> {
    let (new, known) = (&new.registration, known.iter().map(|known| &known.registration));
    let same = |known: &Registration| {
        [
            ("id", known.id == new.id),
            ("as_token", known.as_token == new.as_token),
            ("hs_token", known.hs_token == new.hs_token),
        ]
        .into_iter()
        .find_map(|(kind, is_same)| is_same.then_some(kind))
    };
    known.into_iter().find_map(same).map(|kind| format!("another one has the same `{kind}`"))
}
