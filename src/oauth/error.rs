//! What can go wrong, in the words of the standards.

use std::borrow::Cow;

use crate::{account::AccountError, device::DeviceError, log::CommitError, store::StoreError};

/// The value of `error` in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// RFC 6749, 4.1.2.1 and 5.2
    InvalidRequest,
    /// RFC 6749, 5.2
    InvalidClient,
    /// RFC 6749, 5.2
    InvalidGrant,
    /// RFC 6749, 4.1.2.1 and 5.2
    UnauthorizedClient,
    /// RFC 6749, 5.2
    UnsupportedGrantType,
    /// RFC 6749, 4.1.2.1
    UnsupportedResponseType,
    /// RFC 6749, 4.1.2.1 and 5.2
    InvalidScope,
    /// RFC 6749, 4.1.2.1
    AccessDenied,
    /// RFC 7591, 3.2.2
    InvalidRedirectUri,
    /// RFC 7591, 3.2.2
    InvalidClientMetadata,
    /// RFC 8628, 3.5
    AuthorizationPending,
    /// RFC 8628, 3.5
    SlowDown,
    /// RFC 8628, 3.5
    ExpiredToken,
    /// OpenID Connect Core 1.0, 3.1.2.6
    LoginRequired,
    /// OpenID Connect Core 1.0, 3.1.2.6
    InteractionRequired,
}

impl Code {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::LoginRequired => "login_required",
            Self::InteractionRequired => "interaction_required",
        }
    }
}

/// Why a request of the OAuth 2.0 API cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// The client is told so; the text is for its developers.
    #[error("{1}")]
    Refused(Code, Cow<'static, str>),
    /// Too many have asked for that; after a while there is room again.
    #[error("the server has too much to do")]
    Busy,
    /// The account refused.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The device could not be removed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The log refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OauthError {
    /// A refusal.
    pub(super) fn refused(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(code, text.into())
    }

    /// Nobody is known by the `client_id`.
    pub(super) fn invalid_client() -> Self {
        Self::refused(Code::InvalidClient, "There is no such client")
    }

    /// The code or token does not stand for what the request says.
    pub(super) fn invalid_grant() -> Self {
        Self::refused(Code::InvalidGrant, "The code or token is not valid for this request")
    }
}
