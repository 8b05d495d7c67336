//! `POST /_matrix/client/v1/rtc/livekit/get_token`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use ruma::{OwnedServerName, OwnedUserId, ServerName, api::error::ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Place;
use crate::{
    http::{App, Call, Failure},
    limits::{RTC_TOKEN_ANSWER_BYTES_MAX, SFU_SECONDS_MAX},
    peer::{Bounds, PeerError},
    rtc::{Grant, RtcError},
};

const PEER: &str = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token";
/// The other server asks its SFU, and needs some time for itself.
const PEER_BOUNDS: Bounds = Bounds::new(SFU_SECONDS_MAX.saturating_mul(2), RTC_TOKEN_ANSWER_BYTES_MAX);

#[derive(Deserialize)]
struct Wanted {
    /// Whose SFU it is; without a name it is ours.
    #[serde(default)]
    server_name: Option<OwnedServerName>,
    url: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Passed<'a> {
    user_id: &'a OwnedUserId,
    url: &'a str,
    #[serde(flatten)]
    place: &'a Place,
}

#[derive(Deserialize)]
struct Given {
    jwt: String,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let wanted: Wanted = call.json()?;
    let user = call.caller.ok_or_else(Failure::missing_token)?.user_id;
    let jwt = match &wanted.server_name {
        Some(server) if *server != app.server_name => elsewhere(&app, server, (&user, &wanted)).await?,
        _ => here(&app, &wanted.url, (user, wanted.place), Grant::Publish).await?,
    };
    Ok(Json(json!({ "jwt": jwt })).into_response())
}

/// A token for the SFU of this server.
pub(in crate::http) async fn here(
    app: &App,
    url: &str,
    (user, place): (OwnedUserId, Place),
    grant: Grant,
) -> Result<String, Failure> {
    let seat = place.of(user)?;
    match app.rtc.as_ref().filter(|rtc| rtc.is_at(url)) {
        Some(rtc) => Ok(rtc.token(&seat, grant).await?),
        None => Err(Failure::invalid_param("`url` is not the address of a LiveKit server of this server")),
    }
}

/// A token for the SFU of another server.
async fn elsewhere(
    app: &App,
    server: &ServerName,
    (user, wanted): (&OwnedUserId, &Wanted),
) -> Result<String, Failure> {
    let seat = wanted.place.clone().of(user.clone())?;
    if !app.history.is_joined(&seat.room_id, user).await? {
        return Err(RtcError::NotJoined.into());
    }
    let passed = Passed { user_id: user, url: &wanted.url, place: &wanted.place };
    let body = serde_json::to_vec(&passed).map_err(Failure::internal)?;
    let answer =
        app.peers.post(server, PEER, body, PEER_BOUNDS).await.map_err(|error| refusal(server, &error))?;
    let given: Result<Given, _> = serde_json::from_slice(&answer);
    given.map(|given| given.jwt).map_err(|error| refusal(server, &PeerError::BadAnswer(error.to_string())))
}

/// Two refusals are passed on; what else went wrong there is not told.
fn refusal(server: &ServerName, error: &PeerError) -> Failure {
    match error {
        PeerError::Refused { status: StatusCode::FORBIDDEN, errcode: ErrorKind::Forbidden, .. } => {
            Failure::forbidden("The other server does not let you in")
        }
        PeerError::Refused { status: StatusCode::BAD_REQUEST, errcode: ErrorKind::InvalidParam, .. } => {
            Failure::invalid_param("The other server knows no such LiveKit server")
        }
        _ => {
            tracing::info!(%error, %server, "{server} does not let a user into a call");
            Failure::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, "The other server gives no token")
        }
    }
}
