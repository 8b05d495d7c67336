//! `GET /_matrix/client/v1/auth_metadata` and what it was called before
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1auth_metadata>

use axum::response::{IntoResponse, Response};
use http::Method;
use serde_json::{Value, json};

use crate::{
    http::{Access, App, Call, Failure, Routes},
    oauth::Site,
};

/// What the account page can be asked for, with the names that the actions had while they were proposed.
const ACTIONS: [&str; 9] = [
    "org.matrix.profile",
    "org.matrix.devices_list",
    "org.matrix.device_view",
    "org.matrix.device_delete",
    "org.matrix.account_deactivate",
    "org.matrix.cross_signing_reset",
    "org.matrix.sessions_list",
    "org.matrix.session_view",
    "org.matrix.session_end",
];

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    for path in [
        "/_matrix/client/v1/auth_metadata",
        "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
        "/.well-known/openid-configuration",
    ] {
        routes.raw(Method::GET, path, Access::Open, handle);
    }
    let path = "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer";
    routes.raw(Method::GET, path, Access::Open, issuer);
}

/// The site, or what clients take for "use the older API".
fn site(app: &App) -> Result<&Site, Failure> {
    app.oauth.site().ok_or_else(Failure::unrecognized)
}

async fn handle(app: App, _: Call) -> Result<Response, Failure> {
    Ok(axum::Json(metadata(site(&app)?, app.accounts.check_registration().is_ok())).into_response())
}

async fn issuer(app: App, _: Call) -> Result<Response, Failure> {
    Ok(axum::Json(json!({ "issuer": site(&app)?.issuer() })).into_response())
}

fn metadata(site: &Site, registers: bool) -> Value {
    let mut metadata = json!({
        "issuer": site.issuer(),
        "authorization_endpoint": site.url("authorize"),
        "token_endpoint": site.url("token"),
        "revocation_endpoint": site.url("revoke"),
        "registration_endpoint": site.url("clients"),
        "device_authorization_endpoint": site.url("device"),
        "account_management_uri": site.url("account"),
        "account_management_actions_supported": ACTIONS,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported":
            ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
    });
    if registers && let Some(fields) = metadata.as_object_mut() {
        fields.insert(String::from("prompt_values_supported"), json!(["create"]));
    }
    metadata
}
