//! `POST /_matrix/federation/v1/rtc/livekit/get_token`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::Method;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    http::{
        Access, App, Call, Failure, Routes,
        client::voip::{Place, token_here},
    },
    rtc::{Grant, RtcError},
};

const PATHS: [&str; 2] = [
    "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token",
    "/_matrix/federation/v1/rtc/livekit/get_token",
];

#[derive(Deserialize)]
struct Wanted {
    user_id: OwnedUserId,
    url: String,
    #[serde(flatten)]
    place: Place,
}

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in PATHS {
        routes.raw(Method::POST, path, Access::Signed, handle);
    }
}

/// Answers the request. Whoever comes from elsewhere listens here, and speaks over the SFU of their own server.
async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let wanted: Wanted = call.json()?;
    if call.origin.is_none_or(|origin| wanted.user_id.server_name() != origin.0) {
        return Err(RtcError::NotJoined.into());
    }
    let jwt = token_here(&app, &wanted.url, (wanted.user_id, wanted.place), Grant::Subscribe).await?;
    Ok(Json(json!({ "jwt": jwt })).into_response())
}
