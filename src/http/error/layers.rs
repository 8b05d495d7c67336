//! What the errors of every layer become.

use std::time::Duration;

use http::StatusCode;
use ruma::api::error::{ErrorKind, IncompatibleRoomVersionErrorData, WrongRoomKeysVersionErrorData};

use super::Failure;
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
            OauthError::Busy => Self::busy(BUSY_RETRY_AFTER),
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
            RtcError::TooMany => Self::limit_exceeded(Duration::from_secs(60)),
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
            PurgeError::Report(error) => error.into(),
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
