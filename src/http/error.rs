//! What a handler answers when it cannot do what was asked, and how it looks on the wire.
//!
//! The errors of every layer become a [`Failure`] here and nowhere else, so that status and `errcode`
//! of the whole server can be reviewed in one place; those of identity servers stand in `identity.rs`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>

use std::{borrow::Cow, fmt, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{
        ErrorKind, IncompatibleRoomVersionErrorData, LimitExceededErrorData, RetryAfter, StandardErrorBody,
        UnknownTokenErrorData, WrongRoomKeysVersionErrorData,
    },
};
use serde_json::{Map, Value};

use crate::{
    account::AccountError,
    device::DeviceError,
    ephemeral::EphemeralError,
    federation::FederationError,
    limits::BUSY_RETRY_AFTER,
    log::CommitError,
    media::MediaError,
    notice::NoticeError,
    oauth::OauthError,
    purge::PurgeError,
    push::PushError,
    report::ReportError,
    room::{DelayedError, ReceiveFailure, RoomError},
    rtc::RtcError,
    search::SearchError,
    store::StoreError,
    sync::SyncError,
};

/// Text for people that goes into the field `error`.
type Message = Cow<'static, str>;

/// An answer of status 400 or more.
#[must_use]
pub struct Failure(Box<Answer>);

struct Answer {
    status: StatusCode,
    kind: ErrorKind,
    message: Message,
    retry_after: Option<Duration>,
    uiaa: Option<UiaaInfo>,
    /// Fields beside `errcode` and `error`; an `errcode` in here replaces the one of `kind`.
    fields: Map<String, Value>,
}

impl Failure {
    /// `kind` with any status.
    pub fn new(status: StatusCode, kind: ErrorKind, message: impl Into<Message>) -> Self {
        let message = message.into();
        let fields = Map::new();
        Self(Box::new(Answer { status, kind, message, retry_after: None, uiaa: None, fields }))
    }

    /// An error code that ruma does not know.
    pub fn custom(status: StatusCode, errcode: &str, message: impl Into<Message>) -> Self {
        Self::new(status, ErrorKind::Unknown, message).with("errcode", errcode)
    }

    /// Adds a field to the body.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(String::from(name), value.into());
        self
    }

    /// 400 with `kind`.
    pub fn bad_request(kind: ErrorKind, message: impl Into<Message>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    /// 400 `M_BAD_JSON`: JSON, but not what the endpoint takes.
    pub fn bad_json(message: impl Into<Message>) -> Self {
        Self::bad_request(ErrorKind::BadJson, message)
    }

    /// 400 `M_NOT_JSON`.
    pub fn not_json(message: impl Into<Message>) -> Self {
        Self::bad_request(ErrorKind::NotJson, message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<Message>) -> Self {
        Self::bad_request(ErrorKind::InvalidParam, message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<Message>) -> Self {
        Self::bad_request(ErrorKind::MissingParam, message)
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<Message>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message)
    }

    /// 403 `M_USER_SUSPENDED`.
    pub fn suspended() -> Self {
        let message = "Your account is suspended: you may read, but neither speak nor join";
        Self::new(StatusCode::FORBIDDEN, ErrorKind::UserSuspended, message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<Message>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::Unrecognized, "Unrecognized request")
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint knows other methods.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized, "The endpoint knows other methods")
    }

    /// 400 `M_EXCLUSIVE`: it belongs to an application service.
    pub fn exclusive() -> Self {
        Self::bad_request(ErrorKind::Exclusive, "This name is reserved by an application service")
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<Message>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, "An access token is required")
    }

    /// 401 `M_UNKNOWN_TOKEN`; with `soft_logout` the client may log in again with the same device.
    pub fn unknown_token(soft_logout: bool) -> Self {
        let kind = ErrorKind::UnknownToken(UnknownTokenErrorData { soft_logout });
        Self::new(StatusCode::UNAUTHORIZED, kind, "The access token is not valid")
    }

    /// 429 `M_LIMIT_EXCEEDED`.
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let kind = limit_kind(retry_after);
        Self::new(StatusCode::TOO_MANY_REQUESTS, kind, "Too many requests").retry_after(retry_after)
    }

    /// 503 `M_LIMIT_EXCEEDED`: the server has more to do than it takes on at once.
    pub fn busy(retry_after: Duration) -> Self {
        let kind = limit_kind(retry_after);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The server is busy").retry_after(retry_after)
    }

    /// 500 `M_UNKNOWN`. The cause is logged, not told.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside the server");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, "Internal server error")
    }

    /// What another server said, as far as it is about what the user wanted there. Codes that are about
    /// the user's session here, such as `M_UNKNOWN_TOKEN`, are not passed on: a client would log out.
    pub fn refused(status: StatusCode, errcode: ErrorKind, message: impl Into<Message>) -> Self {
        let usual = match status {
            StatusCode::BAD_REQUEST => ErrorKind::Unknown,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            _ => return Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message),
        };
        let kind = match errcode {
            ErrorKind::BadState
            | ErrorKind::Forbidden
            | ErrorKind::IncompatibleRoomVersion(_)
            | ErrorKind::InvalidParam
            | ErrorKind::InviteBlocked
            | ErrorKind::NotFound
            | ErrorKind::UnableToAuthorizeJoin
            | ErrorKind::UnableToGrantJoin
            | ErrorKind::UnsupportedRoomVersion => errcode,
            _ => usual,
        };
        Self::new(status, kind, message)
    }

    /// 401 with the state of a user-interactive authentication.
    pub fn uiaa(info: UiaaInfo) -> Self {
        let mut failure = Self::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, "");
        failure.0.uiaa = Some(info);
        failure
    }

    fn retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        let answer = &self.0;
        if let Some(uiaa) = &answer.uiaa {
            return serde_json::to_vec(uiaa);
        }
        let body = StandardErrorBody { kind: answer.kind.clone(), message: answer.message.to_string() };
        if answer.fields.is_empty() {
            return serde_json::to_vec(&body);
        }
        let mut value = serde_json::to_value(&body)?;
        if let Value::Object(object) = &mut value {
            object.extend(answer.fields.clone());
        }
        serde_json::to_vec(&value)
    }
}

fn limit_kind(retry_after: Duration) -> ErrorKind {
    ErrorKind::LimitExceeded(LimitExceededErrorData { retry_after: Some(RetryAfter::Delay(retry_after)) })
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = self.body().unwrap_or_else(|_| br#"{"errcode":"M_UNKNOWN","error":""}"#.to_vec());
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(retry_after) = self.0.retry_after {
            // Whole seconds, rounded up, so that nobody comes back too early.
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        response
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({} {:?}: {})", self.0.status, self.0.kind.errcode(), self.0.message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Engine(_) | StoreError::Corrupt(_) | StoreError::Unusable(_) => Self::internal(error),
            StoreError::Closed => Self::busy(Duration::from_secs(5)),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            // A service that uses `once` answers a repeated request itself; this one did not.
            CommitError::AlreadyDone(_) => Self::internal(error),
            CommitError::Conflict(_) => {
                let message = "Another request changed the same thing at the same moment";
                Self::new(StatusCode::CONFLICT, ErrorKind::Unknown, message)
            }
            CommitError::Closed => Self::busy(Duration::from_secs(5)),
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let message = error.to_string();
        match error {
            DeviceError::NotFound(_) => Self::not_found(message),
            DeviceError::BadJson(_) => Self::bad_json(message),
            DeviceError::Invalid(_) => Self::invalid_param(message),
            DeviceError::Missing(_) => Self::missing_param(message),
            DeviceError::InvalidSignature(_) => {
                Self::custom(StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE", message)
            }
            DeviceError::Forbidden(_) => Self::forbidden(message),
            DeviceError::TooLarge => Self::too_large(message),
            DeviceError::WrongBackupVersion { current } => {
                let kind = ErrorKind::WrongRoomKeysVersion(WrongRoomKeysVersionErrorData::new(current));
                Self::new(StatusCode::FORBIDDEN, kind, message)
            }
            DeviceError::Contended => Self::limit_exceeded(Duration::from_secs(1)),
            DeviceError::Commit(error) => error.into(),
            DeviceError::Store(error) => error.into(),
        }
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        let message = error.to_string();
        match error {
            AccountError::InvalidUsername(_) => Self::bad_request(ErrorKind::InvalidUsername, message),
            AccountError::UserInUse => Self::bad_request(ErrorKind::UserInUse, message),
            AccountError::GuestsRefused(_) => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message)
            }
            AccountError::RegistrationRefused(_)
            | AccountError::WrongPassword
            | AccountError::WrongLoginToken
            | AccountError::NameOfKey
            | AccountError::NotTheCaller => Self::forbidden(message),
            AccountError::Deactivated => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::UserDeactivated, message)
            }
            AccountError::Locked => {
                Self::new(StatusCode::UNAUTHORIZED, ErrorKind::UserLocked, message).with("soft_logout", true)
            }
            AccountError::UnknownToken { soft } => Self::unknown_token(soft),
            AccountError::Replayed(_) => Self::unknown_token(false),
            AccountError::AccountPage => Self::forbidden(message),
            AccountError::AddressInUse => Self::bad_request(ErrorKind::ThreepidInUse, message),
            AccountError::AddressUnknown => Self::bad_request(ErrorKind::ThreepidNotFound, message),
            AccountError::AddressNotProved => Self::bad_request(ErrorKind::ThreepidAuthFailed, message),
            AccountError::NotFound(_) => Self::not_found(message),
            AccountError::BadJson(_) => Self::bad_json(message),
            AccountError::Invalid(_) => Self::invalid_param(message),
            AccountError::TooLarge(_) => Self::too_large(message),
            AccountError::KeyTooLarge => Self::bad_request(ErrorKind::KeyTooLarge, message),
            AccountError::ProfileTooLarge => Self::bad_request(ErrorKind::ProfileTooLarge, message),
            AccountError::ManagedType => {
                Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, message)
            }
            AccountError::Uia(info) => Self::uiaa(*info),
            AccountError::Busy => Self::limit_exceeded(BUSY_RETRY_AFTER),
            AccountError::Contended => Self::busy(Duration::from_secs(1)),
            AccountError::Commit(error) => error.into(),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<OauthError> for Failure {
    fn from(error: OauthError) -> Self {
        match error {
            OauthError::Refused(_, text) => Self::bad_request(ErrorKind::Unknown, text),
            OauthError::Account(error) => error.into(),
            OauthError::Device(error) => error.into(),
            OauthError::Commit(error) => error.into(),
            OauthError::Store(error) => error.into(),
        }
    }
}

impl From<RoomError> for Failure {
    fn from(error: RoomError) -> Self {
        let message = error.to_string();
        match error {
            RoomError::NotFound(_) => Self::not_found(message),
            RoomError::Forbidden(_) => Self::forbidden(message),
            RoomError::UnableToAuthoriseJoin => Self::bad_request(ErrorKind::UnableToAuthorizeJoin, message),
            RoomError::IncompatibleVersion(version) => {
                let kind = ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version));
                Self::bad_request(kind, message)
            }
            RoomError::Refused { status, errcode, .. } => Self::refused(status, errcode, message),
            RoomError::Unreachable(_) => Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message),
            RoomError::Invalid(_) => Self::invalid_param(message),
            RoomError::BadJson(_) => Self::bad_json(message),
            RoomError::BadState(_) => Self::bad_request(ErrorKind::BadState, message),
            RoomError::InvalidState(_) => Self::bad_request(ErrorKind::InvalidRoomState, message),
            RoomError::NotLeft(_) => Self::bad_request(ErrorKind::Unknown, message),
            RoomError::GuestsForbidden => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message)
            }
            RoomError::InviteBlocked => Self::new(StatusCode::FORBIDDEN, ErrorKind::InviteBlocked, message),
            RoomError::AliasInUse => Self::bad_request(ErrorKind::RoomInUse, message),
            RoomError::BadAlias(_) => Self::bad_request(ErrorKind::BadAlias, message),
            RoomError::DuplicateAnnotation => Self::bad_request(ErrorKind::DuplicateAnnotation, message),
            RoomError::UnsupportedVersion(_) | RoomError::UnsupportedByInvited(_) => {
                Self::bad_request(ErrorKind::UnsupportedRoomVersion, message)
            }
            RoomError::UnableToGrantJoin => Self::bad_request(ErrorKind::UnableToGrantJoin, message),
            RoomError::TooLarge(_) => Self::too_large(message),
            RoomError::Identity(error) => error.into(),
            RoomError::Partial => {
                Self::custom(StatusCode::NOT_FOUND, "M_UNABLE_DUE_TO_PARTIAL_STATE", message)
            }
            RoomError::Conflict => Self::busy(Duration::from_secs(1)),
            RoomError::Closed => Self::busy(Duration::from_secs(5)),
            RoomError::Store(error) => error.into(),
        }
    }
}

impl From<DelayedError> for Failure {
    fn from(error: DelayedError) -> Self {
        let message = error.to_string();
        match error {
            DelayedError::NotFound => Self::not_found(message),
            DelayedError::Ended(_) => Self::new(StatusCode::CONFLICT, ErrorKind::Unknown, message),
            DelayedError::TooLong => Self::forbidden(message),
            DelayedError::TooMany(wait_ms) => Self::limit_exceeded(Duration::from_millis(wait_ms.max(1_000))),
            DelayedError::Room(error) => error.into(),
            DelayedError::Account(error) => error.into(),
            DelayedError::Commit(error) => error.into(),
            DelayedError::Store(error) => error.into(),
        }
    }
}

impl From<RtcError> for Failure {
    fn from(error: RtcError) -> Self {
        let message = error.to_string();
        match error {
            RtcError::NotJoined => Self::forbidden(message),
            RtcError::Invalid(_) | RtcError::NotDelayed | RtcError::TooShort => Self::invalid_param(message),
            RtcError::Sfu(cause) => {
                tracing::warn!(%cause, "the LiveKit server does not let anybody in");
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
            }
            RtcError::NotBySfu => Self::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, message),
            RtcError::Delayed(error) => error.into(),
            RtcError::Commit(error) => error.into(),
            RtcError::Store(error) => error.into(),
        }
    }
}

impl From<FederationError> for Failure {
    fn from(error: FederationError) -> Self {
        match error {
            FederationError::Forbidden(message) => Self::forbidden(message),
            FederationError::NotFound(message) => Self::not_found(message),
            FederationError::Invalid(message) => Self::invalid_param(message),
            FederationError::Received(ReceiveFailure::Trouble(error)) | FederationError::Room(error) => {
                error.into()
            }
            FederationError::Received(failure) => match failure {
                ReceiveFailure::Malformed(_) => Self::invalid_param(failure.to_string()),
                ReceiveFailure::NotInRoom => Self::not_found(failure.to_string()),
                _ => Self::forbidden(failure.to_string()),
            },
            FederationError::Account(error) => error.into(),
            FederationError::Device(error) => error.into(),
            FederationError::Trouble(why) => Self::internal(why),
            FederationError::Store(error) => error.into(),
        }
    }
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        let gateway = |status, kind, message: String| Self::new(status, kind, message);
        match error {
            MediaError::NotFound => Self::not_found(message),
            MediaError::NotYetUploaded => {
                gateway(StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded, message)
            }
            MediaError::CannotOverwrite => {
                Self::new(StatusCode::CONFLICT, ErrorKind::CannotOverwriteMedia, message)
            }
            MediaError::TooLarge(_) | MediaError::TooManyPixels => Self::too_large(message),
            MediaError::RemoteTooLarge(_) | MediaError::RemoteTooManyPixels => {
                gateway(StatusCode::BAD_GATEWAY, ErrorKind::TooLarge, message)
            }
            MediaError::Forbidden(message) => Self::forbidden(message),
            MediaError::Invalid(message) => Self::invalid_param(message),
            MediaError::TooMany(pause) => Self::limit_exceeded(pause),
            MediaError::Broken(_) | MediaError::NoThumbnail(_) => {
                Self::bad_request(ErrorKind::Unknown, message)
            }
            MediaError::Unreachable(_) => gateway(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message),
            MediaError::Place(_) | MediaError::Storage(_) | MediaError::Damaged => Self::internal(message),
            MediaError::Commit(error) => error.into(),
            MediaError::Store(error) => error.into(),
        }
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::BadToken | SyncError::Invalid(_) => Self::invalid_param(error.to_string()),
            SyncError::UnknownPos => {
                Self::custom(StatusCode::BAD_REQUEST, "M_UNKNOWN_POS", error.to_string())
            }
            SyncError::Ephemeral(error) => error.into(),
            SyncError::Push(error) => error.into(),
            SyncError::Account(error) => error.into(),
            SyncError::Commit(error) => error.into(),
            SyncError::Store(error) => error.into(),
        }
    }
}

impl From<PurgeError> for Failure {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::NotFound => Self::not_found(error.to_string()),
            PurgeError::Room(error) => error.into(),
            PurgeError::Account(error) => error.into(),
            PurgeError::Device(error) => error.into(),
            PurgeError::Delayed(error) => error.into(),
            PurgeError::Media(error) => error.into(),
            PurgeError::Commit(error) => error.into(),
            PurgeError::Store(error) => error.into(),
        }
    }
}

impl From<NoticeError> for Failure {
    fn from(error: NoticeError) -> Self {
        let message = error.to_string();
        match error {
            NoticeError::NoSuchUser => Self::not_found(message),
            NoticeError::NameTaken => Self::custom(StatusCode::CONFLICT, "M_USER_IN_USE", message),
            NoticeError::CannotReject => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::CannotLeaveServerNoticeRoom, message)
            }
            NoticeError::Room(error) => error.into(),
            NoticeError::Account(error) => error.into(),
            NoticeError::Commit(error) => error.into(),
            NoticeError::Store(error) => error.into(),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let message = error.to_string();
        match error {
            ReportError::NotFound => Self::not_found(message),
            ReportError::TooLong => Self::too_large(message),
            ReportError::Account(error) => error.into(),
            ReportError::Commit(error) => error.into(),
            ReportError::Store(error) => error.into(),
        }
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::NotReady => Self::busy(BUSY_RETRY_AFTER),
            SearchError::BadToken => Self::invalid_param(error.to_string()),
            SearchError::Damaged | SearchError::Index(_) | SearchError::Folder(_) => Self::internal(error),
            SearchError::Account(error) => error.into(),
            SearchError::Commit(error) => error.into(),
            SearchError::Store(error) => error.into(),
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Invalid(message) => Self::invalid_param(message),
            PushError::Contended => Self::busy(Duration::from_secs(1)),
            PushError::Account(error) => error.into(),
            PushError::Commit(error) => error.into(),
            PushError::Store(error) => error.into(),
        }
    }
}

impl From<EphemeralError> for Failure {
    fn from(error: EphemeralError) -> Self {
        let message = error.to_string();
        match error {
            EphemeralError::NotJoined | EphemeralError::Forbidden(_) => Self::forbidden(message),
            EphemeralError::NotFound(_) => Self::not_found(message),
            EphemeralError::NotInThread => {
                let code = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
                Self::custom(StatusCode::BAD_REQUEST, code, message)
            }
            EphemeralError::Unsubscribed => {
                let code = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
                Self::custom(StatusCode::CONFLICT, code, message)
            }
            EphemeralError::Invalid(_) => Self::invalid_param(message),
            EphemeralError::Account(error) => error.into(),
            EphemeralError::Commit(error) => error.into(),
            EphemeralError::Store(error) => error.into(),
        }
    }
}
