//! `GET /_matrix/client/v3/capabilities`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities>

use axum::response::{IntoResponse, Response};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    dag::versions::SUPPORTED,
    http::{Access, App, Call, Failure, Routes, admin::is_administrator},
    limits::{DELAYED_EVENT_MS_MAX, DELAYED_EVENTS_PER_USER_MAX},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    // By hand, because ruma leaves out what has its default value, and clients look for it.
    for path in ["/_matrix/client/v3/capabilities", "/_matrix/client/r0/capabilities"] {
        routes.raw(Method::GET, path, Access::Required, handle);
    }
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let available: Map<String, Value> =
        SUPPORTED.iter().map(|version| (version.to_string(), Value::from("stable"))).collect();
    // Whoever was logged in by the OAuth 2.0 API does these on the account page: see `Accounts::authorize_caller`.
    let by_client = !app.accounts.is_oauth_session(&caller).await?;
    let mut capabilities = json!({
        "m.room_versions": { "default": app.config.default_room_version.id(), "available": available },
        "m.change_password": { "enabled": by_client },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": by_client && app.post.is_some() },
        "m.get_login_token": { "enabled": by_client },
    });
    let delayed =
        json!({ "max_delay_ms": DELAYED_EVENT_MS_MAX, "max_scheduled": DELAYED_EVENTS_PER_USER_MAX });
    if let Some(object) = capabilities.as_object_mut() {
        // <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
        for name in ["m.delayed_events", "org.matrix.msc4140.delayed_events"] {
            object.insert(name.to_owned(), delayed.clone());
        }
    }
    if is_administrator(&app, &caller, &call.peer).await?
        && let Some(object) = capabilities.as_object_mut()
    {
        object.insert("m.account_moderation".to_owned(), json!({ "suspend": true, "lock": true }));
    }
    Ok(axum::Json(json!({ "capabilities": capabilities })).into_response())
}
