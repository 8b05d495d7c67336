//! `POST /_matrix/oauth2/token`: a code, a device code or a refresh token becomes tokens
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#grant-types>

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::reply::{answer, failed, form, misunderstood};
use crate::{
    account::Session,
    http::{Access, App, Call, Failure, Routes},
    oauth::{Granted, TokenParams},
};

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::POST, "/_matrix/oauth2/token", Access::Open, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    app.oauth.site().ok_or_else(Failure::unrecognized)?;
    let Some(params) = form::<TokenParams>(&call) else { return Ok(misunderstood()) };
    let Granted { session, scope } = match app.oauth.token(&params).await {
        Ok(granted) => granted,
        Err(error) => return failed(error),
    };
    let Session { user_id, device_id, access_token, refresh_token, expires_in } = session;
    app.accounts.note_seen(&user_id, &device_id, call.peer.ip.map(|ip| ip.to_string()));
    let mut body = json!({ "access_token": access_token, "token_type": "Bearer", "scope": scope });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(refresh_token.map(|token| (String::from("refresh_token"), Value::from(token))));
        fields.extend(expires_in.map(|time| (String::from("expires_in"), Value::from(time.as_secs()))));
    }
    Ok(answer(StatusCode::OK, body))
}
