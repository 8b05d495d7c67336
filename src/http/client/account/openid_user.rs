//! `GET /_matrix/federation/v1/openid/userinfo`
//!
//! Under the path of servers, but anybody asks who was given a token, and signs nothing.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo>

use axum::{
    extract::Query,
    response::{IntoResponse, Response},
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::http::{Access, App, Call, Failure, Routes};

#[derive(Deserialize)]
struct Asked {
    access_token: String,
}

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::GET, "/_matrix/federation/v1/openid/userinfo", Access::Open, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let asked = Query::<Asked>::try_from_uri(&call.parts.uri).map_err(|_| Failure::missing_token())?;
    let user_id = app.accounts.openid_user(&asked.access_token).await?;
    Ok(axum::Json(json!({ "sub": user_id })).into_response())
}
