//! What can go wrong with accounts.

use ruma::api::client::uiaa::UiaaInfo;

use super::Caller;
use crate::{log::CommitError, store::StoreError};

/// Why a request about an account cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The user name is not one that this server gives out.
    #[error("{0}")]
    InvalidUsername(&'static str),
    /// The user name is taken.
    #[error("The user name is taken")]
    UserInUse,
    /// Nobody may register here, or not like this.
    #[error("{0}")]
    RegistrationRefused(&'static str),
    /// Guests are not let in, or may not do this.
    #[error("{0}")]
    GuestsRefused(&'static str),
    /// The password is wrong, or there is no such user: which of the two is not told.
    #[error("Invalid user name or password")]
    WrongPassword,
    /// The login token stands for nobody, has been used, or its time is over; or the user has another password since
    /// somebody was let in.
    #[error("The login token is not valid")]
    WrongLoginToken,
    /// Somebody proved that they are another user than the one who makes the request.
    #[error("The user is not the one who makes the request")]
    NotTheCaller,
    /// The account is deactivated.
    #[error("The account has been deactivated")]
    Deactivated,
    /// The account is locked.
    #[error("The account is locked")]
    Locked,
    /// The token stands for nobody; `soft` when only its time is over.
    #[error("The access token is not valid")]
    UnknownToken {
        /// The device is still there, and the client may log in to it again.
        soft: bool,
    },
    /// A refresh token came back that its client has replaced: somebody else has it, and the session must end.
    #[error("The refresh token has been used before")]
    Replayed(Box<Caller>),
    /// The session was authorised by the OAuth 2.0 API, which leaves this to the account page.
    #[error("This is done on the account page of the server")]
    AccountPage,
    /// The address is somebody's already.
    #[error("The address is in use")]
    AddressInUse,
    /// The address is nobody's.
    #[error("The address is not known")]
    AddressUnknown,
    /// The letter to the address has not been read.
    #[error("The address has not been proved")]
    AddressNotProved,
    /// There is no such thing; the text names the kind of thing.
    #[error("No such {0}")]
    NotFound(&'static str),
    /// A body is not what is asked for; the text says why.
    #[error("{0}")]
    BadJson(String),
    /// A parameter has a value that it must not have; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// A value is larger than the specification allows.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The name of a profile field is too long.
    #[error("The name of the profile field is too long")]
    KeyTooLarge,
    /// The profile would be too large.
    #[error("The profile would be larger than 64 KiB")]
    ProfileTooLarge,
    /// The type of account data is managed by the server.
    #[error("This type of account data has an endpoint of its own")]
    ManagedType,
    /// More authentication is needed; here is what.
    #[error("More authentication is needed")]
    Uia(Box<UiaaInfo>),
    /// A cross-signing key of the user has the name that a device is to have; the two are looked up by one name.
    #[error("A cross-signing key has the name of this device")]
    NameOfKey,
    /// More passwords are to be hashed than the server takes on.
    #[error("Too many passwords are being checked")]
    Busy,
    /// Others kept changing the same rows.
    #[error("The account is being changed by others")]
    Contended,
    /// The log refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
