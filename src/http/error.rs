//! What a handler answers when it cannot do what was asked, and how it looks on the wire.
//!
//! The errors of every layer become a [`Failure`] in [`layers`] and nowhere else, so that status and `errcode`
//! of the whole server can be reviewed in one place; those of identity servers stand in `identity.rs`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>

mod layers;

use std::{borrow::Cow, fmt, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{ErrorKind, LimitExceededErrorData, RetryAfter, StandardErrorBody, UnknownTokenErrorData},
};
use serde_json::{Map, Value};

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
