//! `POST /_matrix/oauth2/revoke`: a session ends
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#token-revocation>

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::reply::{answer, failed, form, misunderstood};
use crate::http::{Access, App, Call, Failure, Routes};

/// Whether it is an access or a refresh token, and whose it is, makes no difference.
#[derive(Deserialize)]
struct Params {
    token: String,
}

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::POST, "/_matrix/oauth2/revoke", Access::Open, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    app.oauth.site().ok_or_else(Failure::unrecognized)?;
    let Some(params) = form::<Params>(&call) else { return Ok(misunderstood()) };
    match app.oauth.revoke(&params.token).await {
        Ok(()) => Ok(answer(StatusCode::OK, json!({}))),
        Err(error) => failed(error),
    }
}
