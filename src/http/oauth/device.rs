//! `POST /_matrix/oauth2/device`: a client without a browser asks for a code to show
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-flow>

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::reply::{answer, failed, form, misunderstood};
use crate::{
    http::{Access, App, Call, Failure, Routes},
    limits::{OAUTH_DEVICE_CODE_MS, OAUTH_POLL_SECONDS},
};

#[derive(Deserialize)]
struct Params {
    client_id: String,
    #[serde(default)]
    scope: String,
}

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::POST, "/_matrix/oauth2/device", Access::Open, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let site = app.oauth.site().ok_or_else(Failure::unrecognized)?;
    let Some(params) = form::<Params>(&call) else { return Ok(misunderstood()) };
    let codes = match app.oauth.device_authorization(&params.client_id, &params.scope).await {
        Ok(codes) => codes,
        Err(error) => return failed(error),
    };
    let link = site.url("link");
    let body = json!({
        "device_code": codes.device_code,
        "user_code": codes.user_code,
        "verification_uri": link,
        "verification_uri_complete": format!("{link}?user_code={}", codes.user_code),
        "expires_in": OAUTH_DEVICE_CODE_MS / 1_000,
        "interval": OAUTH_POLL_SECONDS,
    });
    Ok(answer(StatusCode::OK, body))
}
