//! What clients have this server ask of identity servers.

use std::time::Duration;

use http::StatusCode;
use ruma::{
    RoomId, UserId,
    api::{client::account::ThirdPartyIdRemovalStatus, client::membership::Invite3pid, error::ErrorKind},
};
use serde_json::{Map, Value};

use super::{App, Failure, meet_users};
use crate::identity::{Address, Desk, IdentityError, Unbound};

/// When a client may come back to an identity server that has too much to do.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Codes that tell the user what to do at the identity server. Others are not passed on: a client would take
/// `M_UNKNOWN_TOKEN` for the end of its session here.
const TOLD: [&str; 9] = [
    "M_INVALID_EMAIL",
    "M_INVALID_PARAM",
    "M_NO_VALID_SESSION",
    "M_SESSION_EXPIRED",
    "M_SESSION_NOT_VALIDATED",
    "M_TERMS_NOT_SIGNED",
    "M_THREEPID_DENIED",
    "M_THREEPID_IN_USE",
    "M_UNRECOGNIZED",
];

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let message = error.to_string();
        match error {
            IdentityError::NotTrusted => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::ServerNotTrusted, message)
            }
            IdentityError::Invalid(_) => Self::invalid_param(message),
            IdentityError::Refused { status, errcode, .. } => refused_by_identity(status, &errcode, message),
            IdentityError::Unreachable(_) | IdentityError::BadAnswer(_) => {
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
            }
            IdentityError::Commit(error) => error.into(),
            IdentityError::Store(error) => error.into(),
        }
    }
}

/// What a client is told of the refusal of an identity server.
fn refused_by_identity(status: StatusCode, errcode: &str, message: String) -> Failure {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::limit_exceeded(RETRY_AFTER);
    }
    let status = match status {
        // It is about the token there.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    match (TOLD.contains(&errcode), status) {
        (true, _) => Failure::custom(status, errcode, message),
        (false, StatusCode::FORBIDDEN) => Failure::forbidden(message),
        (false, _) => Failure::bad_request(ErrorKind::Unknown, message),
    }
}

/// Refuses addresses that could not be invited: before anything is done.
pub(super) fn check_addresses(app: &App, invited: &[Invite3pid]) -> Result<(), Failure> {
    for invite in invited {
        app.identity.trusted(&invite.id_server)?;
        Address::new(invite.medium.clone(), &invite.address)?;
    }
    Ok(())
}

/// Has `sender` invite whoever has an address; `said` goes into the invite of a user.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#thirdparty_post_matrixclientv3roomsroomidinvite>
pub(super) async fn invite_address(
    app: &App,
    (sender, room): (&UserId, &RoomId),
    invited: &Invite3pid,
    said: Map<String, Value>,
) -> Result<(), Failure> {
    let desk = Desk { server: &invited.id_server, token: &invited.id_access_token };
    let address = Address::new(invited.medium.clone(), &invited.address)?;
    app.identity.trusted(desk.server)?;
    app.rooms.check_address_invitable(sender, room).await?;
    let Some(user) = app.identity.user_of(desk, &address).await? else {
        return Ok(app.rooms.invite_unknown(&app.identity, desk, (sender, room), &address).await?);
    };
    meet_users(app, std::slice::from_ref(&user)).await?;
    Ok(app.rooms.invite_saying(sender, room, &user, said).await?)
}

/// As clients are told of it.
pub(super) fn removal(unbound: Unbound) -> ThirdPartyIdRemovalStatus {
    match unbound {
        Unbound::Done => ThirdPartyIdRemovalStatus::Success,
        Unbound::Unsupported => ThirdPartyIdRemovalStatus::NoSupport,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::refused_by_identity;

    #[track_caller]
    fn check(status: u16, errcode: &str, expected: &str) {
        let failure = refused_by_identity(StatusCode::from_u16(status).unwrap(), errcode, "why".into());
        let shown = format!("{failure:?}");
        assert!(shown.contains(expected), "{status} {errcode}: {shown}");
    }

    #[test]
    fn refusals_do_not_end_the_session_here() {
        check(401, "M_UNKNOWN_TOKEN", r#"403 Forbidden "M_FORBIDDEN""#);
        check(401, "M_UNAUTHORIZED", r#"403 Forbidden "M_FORBIDDEN""#);
        check(403, "M_USER_DEACTIVATED", r#"403 Forbidden "M_FORBIDDEN""#);
        check(400, "M_UNKNOWN_TOKEN", r#"400 Bad Request "M_UNKNOWN""#);
        check(404, "", r#"400 Bad Request "M_UNKNOWN""#);
        check(429, "M_LIMIT_EXCEEDED", r#"429 Too Many Requests "M_LIMIT_EXCEEDED""#);
    }
}
