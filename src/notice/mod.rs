//! What those who run the server tell its users, in a room of its own with each of them.
//!
//! Owns: the table `NoticeRoom`. May use: everything down to `history`, `account` and `room`. Start reading at
//! [`Notices`]. Invariants: a user has one such room, which stays theirs when they leave it; an invite to it cannot be
//! rejected.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-notices>

mod send;

use std::sync::Arc;

use ruma::{OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};

pub use send::Notice;

use crate::{
    account::{AccountError, Accounts},
    history::History,
    log::CommitError,
    room::{RoomError, Rooms},
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::Membership,
};

/// The room with each user.
const NOTICE_ROOMS: Rows<(OwnedUserId,), OwnedRoomId> = Rows::new(TableId::NoticeRoom);

/// How notices look; see the `notices` part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who tells users.
    pub sender: OwnedUserId,
    /// How the sender is called.
    pub display_name: String,
    /// The address of the sender's picture.
    pub avatar_url: Option<String>,
    /// The name of the rooms.
    pub room_name: String,
    /// The version of new rooms.
    pub room_version: RoomVersionId,
}

/// Tells users what they should know. Cheap to clone.
#[derive(Clone)]
pub struct Notices(Arc<Inner>);

struct Inner {
    history: History,
    accounts: Accounts,
    rooms: Rooms,
    settings: Settings,
    /// One at a time, so that nobody gets two rooms.
    turn: tokio::sync::Mutex<()>,
}

/// Why a user could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// There is no such user here.
    #[error("There is no such user on this server")]
    NoSuchUser,
    /// Somebody has registered the name of the sender.
    #[error("The name of the sender of notices belongs to a user; choose another")]
    NameTaken,
    /// The invite is one to the room of notices.
    #[error("You cannot reject this invite")]
    CannotReject,
    /// The room could not be used.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The account could not be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// What belongs to it could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Notices {
    /// Notices in the rooms of `rooms`.
    #[must_use]
    pub fn new((history, accounts): (History, Accounts), rooms: Rooms, settings: Settings) -> Self {
        let turn = tokio::sync::Mutex::default();
        Self(Arc::new(Inner { history, accounts, rooms, settings, turn }))
    }

    /// The room in which `user` is told, if they have been told something.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn room_of(&self, user: &UserId) -> Result<Option<OwnedRoomId>, StoreError> {
        self.0.history.log().db().row(&NOTICE_ROOMS, &(user.to_owned(),)).await
    }

    /// Whether `user` may leave `room`.
    ///
    /// # Errors
    /// [`NoticeError::CannotReject`] when they may not.
    pub async fn check_leave(&self, user: &UserId, room: &RoomId) -> Result<(), NoticeError> {
        let standing = self.0.history.standing(user, room).await?;
        let is_invited = standing.is_some_and(|standing| standing.membership == Membership::Invite);
        match is_invited && self.room_of(user).await?.is_some_and(|its| its == room) {
            true => Err(NoticeError::CannotReject),
            false => Ok(()),
        }
    }
}
