//! `GET` and `POST /_synapse/admin/v1/register`: accounts for whoever knows the shared secret.
//!
//! The secret proves itself by an HMAC-SHA1 over a nonce of the server, user name, password and role.

use axum::response::{IntoResponse, Response};
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    account::SharedSecretUser,
    http::{Access, App, Call, Failure, Routes},
};

const PATH: &str = "/_synapse/admin/v1/register";

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::GET, PATH, Access::Open, nonce);
    routes.raw(Method::POST, PATH, Access::Open, register);
}

#[derive(Deserialize)]
struct Body {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
}

async fn nonce(app: App, _: Call) -> Result<Response, Failure> {
    let nonce = app.accounts.registration_nonce();
    Ok(axum::Json(json!({ "nonce": nonce })).into_response())
}

async fn register(app: App, call: Call) -> Result<Response, Failure> {
    let Body { nonce, username, password, admin, user_type, mac } = call.json()?;
    let asked = SharedSecretUser { nonce, username, password, admin, user_type, mac };
    let made = app.accounts.register_with_shared_secret(&app.registration_secret, asked).await?;
    let answer = json!({
        "user_id": made.user_id,
        "device_id": made.device_id,
        "access_token": made.access_token,
        "home_server": app.server_name,
    });
    Ok(axum::Json(answer).into_response())
}
