//! `POST /_matrix/livekit/jwt/sfu/get`, `…/get_token` and `…/delegate_delayed_leave`: what a service beside the server
//! (`lk-jwt-service`) would answer, for clients that know no other way. They prove by an OpenID token who they are, and may
//! be users of any server.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId,
    api::{error::ErrorKind, federation::openid::get_openid_userinfo},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    account::Standing,
    http::{Access, App, Call, Failure, Routes},
    limits::{RTC_OPENID_SECONDS_MAX, RTC_TOKEN_ANSWER_BYTES_MAX},
    peer::Bounds,
    rtc::{Grant, Member, Rtc, Seat},
};

/// What the paths begin with.
pub(super) const BASE: &str = "/_matrix/livekit/jwt";
/// The one slot of a room that older clients know.
const OLD_SLOT: &str = "m.call#ROOM";

#[derive(Deserialize)]
struct OpenId {
    access_token: String,
    matrix_server_name: OwnedServerName,
}

#[derive(Deserialize)]
struct OldWanted {
    room: OwnedRoomId,
    openid_token: OpenId,
    device_id: String,
    #[serde(default)]
    delay_id: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    claimed_user_id: OwnedUserId,
    claimed_device_id: String,
}

#[derive(Deserialize)]
struct Wanted {
    room_id: OwnedRoomId,
    slot_id: String,
    openid_token: OpenId,
    member: Named,
    #[serde(default)]
    delay_id: String,
}

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::POST, "/_matrix/livekit/jwt/sfu/get", Access::Open, old);
    routes.raw(Method::POST, "/_matrix/livekit/jwt/get_token", Access::Open, get_token);
    routes.raw(Method::POST, "/_matrix/livekit/jwt/delegate_delayed_leave", Access::Open, delegate);
    routes.raw(Method::GET, "/_matrix/livekit/jwt/healthz", Access::Open, healthz);
}

async fn old(app: App, call: Call) -> Result<Response, Failure> {
    let rtc = sfu(&app)?;
    let wanted: OldWanted = call.json()?;
    let user_id = prove(&app, &wanted.openid_token).await?;
    let is_local = app.history.is_local(&user_id);
    let member = Member { id: wanted.device_id, device_id: None };
    let seat = Seat { user_id, room_id: wanted.room, slot_id: OLD_SLOT.to_owned(), member };
    // Whoever comes from elsewhere may take part in what users of this server have begun.
    let jwt = rtc.token_by_name(&seat, is_local).await?;
    if !wanted.delay_id.is_empty() {
        rtc.delegate_by_name(&seat, &wanted.delay_id).await?;
    }
    Ok(Json(json!({ "url": rtc.url(), "jwt": jwt })).into_response())
}

async fn get_token(app: App, call: Call) -> Result<Response, Failure> {
    let rtc = sfu(&app)?;
    let (seat, delay_id) = seat(&app, call.json()?).await?;
    // Clients of this dialect may all meet at one SFU, whosoever it is.
    let jwt = rtc.token(&seat, Grant::Publish).await?;
    if !delay_id.is_empty() {
        rtc.delegate(&seat, &delay_id).await?;
    }
    Ok(Json(json!({ "url": rtc.url(), "jwt": jwt })).into_response())
}

/// Clients find out by a request without a body whether there is such an endpoint.
async fn delegate(app: App, call: Call) -> Result<Response, Failure> {
    let rtc = sfu(&app)?;
    let (seat, delay_id) = seat(&app, call.json()?).await?;
    rtc.delegate(&seat, &delay_id).await?;
    Ok(Json(json!({})).into_response())
}

async fn healthz(app: App, _: Call) -> Result<Response, Failure> {
    sfu(&app)?;
    Ok(Json(json!({})).into_response())
}

fn sfu(app: &App) -> Result<&Rtc, Failure> {
    app.rtc.as_ref().ok_or_else(Failure::unrecognized)
}

async fn seat(app: &App, wanted: Wanted) -> Result<(Seat, String), Failure> {
    let user_id = prove(app, &wanted.openid_token).await?;
    if user_id != wanted.member.claimed_user_id {
        return Err(unauthorized());
    }
    let member = Member { id: wanted.member.id, device_id: Some(wanted.member.claimed_device_id) };
    let seat = Seat { user_id, room_id: wanted.room_id, slot_id: wanted.slot_id, member };
    Ok((seat, wanted.delay_id))
}

/// Who a token says somebody is: their own server is asked. Why it says nothing is not told.
async fn prove(app: &App, token: &OpenId) -> Result<OwnedUserId, Failure> {
    if token.matrix_server_name == app.server_name {
        let user = app.accounts.openid_user(&token.access_token).await.map_err(|_| unauthorized())?;
        let account = app.accounts.user(&user).await?;
        return match account.is_some_and(|account| account.standing() == Standing::Good) {
            true => Ok(user),
            false => Err(Failure::suspended()),
        };
    }
    let request = get_openid_userinfo::v1::Request::new(token.access_token.clone());
    let bounds = Bounds::new(RTC_OPENID_SECONDS_MAX, RTC_TOKEN_ANSWER_BYTES_MAX);
    let answer = app.peers.call(&token.matrix_server_name, request, bounds).await;
    let user = answer.map_err(|error| {
        tracing::info!(%error, server = %token.matrix_server_name, "nobody says who somebody is");
        unauthorized()
    })?;
    // A server vouches for its own users.
    match user.sub.server_name() == token.matrix_server_name {
        true => Ok(user.sub),
        false => Err(unauthorized()),
    }
}

fn unauthorized() -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, "The OpenID token is not valid")
}
