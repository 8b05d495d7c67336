//! Why a room does not do what was asked.

use http::StatusCode;
use ruma::{RoomVersionId, api::error::ErrorKind};

use crate::{
    dag::{BuildError, Denied, FormatError},
    identity::IdentityError,
    log::CommitError,
    store::StoreError,
};

/// Why a room does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The room, alias or event is not here, or the caller may not know that it is.
    #[error("{0}")]
    NotFound(&'static str),
    /// The rules of the room, or of this server, forbid it.
    #[error("{0}")]
    Forbidden(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The content is no JSON object that an event can carry.
    #[error("{0}")]
    BadJson(String),
    /// The room's present state does not go with it.
    #[error("{0}")]
    BadState(String),
    /// A new room would be one that its creator may not make as they want it.
    #[error("{0}")]
    InvalidState(String),
    /// The user has not left the room, or never was there.
    #[error("{0}")]
    NotLeft(&'static str),
    /// The user is a guest, and the room wants none.
    #[error("guests may not join this room")]
    GuestsForbidden,
    /// The user does not want to be invited.
    #[error("the user does not want to be invited")]
    InviteBlocked,
    /// The alias is taken.
    #[error("the room alias is in use")]
    AliasInUse,
    /// A canonical alias does not point to the room.
    #[error("{0}")]
    BadAlias(String),
    /// The same user has annotated the same event with the same key.
    #[error("you have already reacted with this key")]
    DuplicateAnnotation,
    /// This server does not know the room version.
    #[error("this server does not support room version {0}")]
    UnsupportedVersion(RoomVersionId),
    /// The server of an invited user does not know the room's version.
    #[error("the server of the user does not support room version {0}")]
    UnsupportedByInvited(RoomVersionId),
    /// The user may join by the room's rules, but nobody here has the power to let them in.
    #[error("no user of this server can let you into the room")]
    UnableToGrantJoin,
    /// The event or one of its fields is too large.
    #[error("{0}")]
    TooLarge(String),
    /// This server is in none of the rooms by which the room's rules let users in.
    #[error("this server cannot tell whether you may join")]
    UnableToAuthoriseJoin,
    /// The other server does not know the room's version.
    #[error("your server does not support room version {0}")]
    IncompatibleVersion(RoomVersionId),
    /// Another server, which was asked for help, has refused.
    #[error("the other server says: {message}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// With which code.
        errcode: ErrorKind,
        /// What it says to people.
        message: String,
    },
    /// No other server that could help was reached, or its answer made no sense.
    #[error("the other server could not help: {0}")]
    Unreachable(String),
    /// An identity server was of no help.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Not all members of the room are known yet.
    #[error("this server has just joined the room and does not know all of it yet")]
    Partial,
    /// Other requests kept changing the room; trying again will do.
    #[error("the room is changing too fast")]
    Conflict,
    /// The server is stopping.
    #[error("the server is shutting down")]
    Closed,
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommitError> for RoomError {
    fn from(error: CommitError) -> Self {
        match error {
            // A commit with a `once` key is answered where it is made; see `turn::Turn::finish`.
            CommitError::AlreadyDone(_) | CommitError::Conflict(_) => Self::Conflict,
            CommitError::Closed => Self::Closed,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Denied> for RoomError {
    fn from(Denied(reason): Denied) -> Self {
        Self::Forbidden(reason)
    }
}

impl From<BuildError> for RoomError {
    fn from(error: BuildError) -> Self {
        match error {
            error if error.is_too_large() => Self::TooLarge(error.to_string()),
            BuildError::Denied(denied) => denied.into(),
            error => Self::BadJson(error.to_string()),
        }
    }
}

impl From<FormatError> for RoomError {
    fn from(error: FormatError) -> Self {
        BuildError::Format(error).into()
    }
}

impl RoomError {
    /// Whether it is this server's own trouble, which may be over later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.may_pass(),
            Self::Conflict | Self::Closed => true,
            _ => false,
        }
    }

    pub(super) fn forbidden(reason: &str) -> Self {
        Self::Forbidden(String::from(reason))
    }

    pub(super) fn invalid(reason: &str) -> Self {
        Self::Invalid(String::from(reason))
    }
}
