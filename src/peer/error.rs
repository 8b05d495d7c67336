//! What can go wrong between two servers.

use http::StatusCode;
use ruma::api::error::{ErrorKind, StandardErrorBody};

use super::NetError;

/// Why another server did not give what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// It was not found, nobody listens there, or what answers is not it.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// Its answer is larger than allowed.
    #[error("the server answered with more than is allowed")]
    TooLarge,
    /// It said no.
    #[error("the server refused with {status} {}: {message}", .errcode.errcode())]
    Refused {
        /// The status, 300 or more.
        status: StatusCode,
        /// The Matrix error code; `M_UNKNOWN` when there was none.
        errcode: ErrorKind,
        /// What it says to people.
        message: String,
    },
    /// Its answer is not what the specification says.
    #[error("the server's answer makes no sense: {0}")]
    BadAnswer(String),
    /// What answers is no Matrix server, as when a proxy shows a page of its own: whatever it says, nothing has been done.
    #[error("what answers is no Matrix server: {0}")]
    Stranger(String),
    /// This server does not talk to it: its address is in a denied range, or federation is off.
    #[error("the server may not be talked to: {0}")]
    Forbidden(String),
    /// What we wanted to say cannot be said; a mistake of ours.
    #[error("the request cannot be written: {0}")]
    BadRequest(String),
}

impl PeerError {
    /// Whether the server itself may be at fault, so that asking another one or asking later may help.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout | Self::Stranger(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::TooLarge | Self::BadAnswer(_) | Self::Forbidden(_) | Self::BadRequest(_) => false,
        }
    }

    /// Whether the server has heard the question and does not want this server to know.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN)
    }

    /// Whether the server has heard the question and does not know the answer.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// The refusal in an answer of status 300 or more.
    pub(super) fn refused(status: StatusCode, body: &[u8]) -> Self {
        let told: Option<StandardErrorBody> = serde_json::from_slice(body).ok();
        match told {
            Some(told) => Self::Refused { status, errcode: told.kind, message: brief(&told.message) },
            None => Self::Refused { status, errcode: ErrorKind::Unknown, message: String::new() },
        }
    }
}

/// What another server says goes into logs and answers: not without end, and in one line.
fn brief(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

impl From<NetError> for PeerError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Unreachable(why) => Self::Unreachable(why),
            NetError::Timeout => Self::Timeout,
            NetError::TooLarge => Self::TooLarge,
            NetError::Forbidden(why) => Self::Forbidden(why),
        }
    }
}
