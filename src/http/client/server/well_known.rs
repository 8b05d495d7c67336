//! `GET /.well-known/matrix/client`, `GET /.well-known/matrix/server`, `GET /.well-known/matrix/support` and
//! `GET /.well-known/matrix/policy_server`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#well-known-uris>

use axum::response::{IntoResponse, Response};
use http::{Method, Uri};
use serde_json::{Map, Value, json};

use crate::http::{Access, App, Call, Failure, Routes, client::voip::foci};

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::GET, "/.well-known/matrix/client", Access::Open, client);
    routes.raw(Method::GET, "/.well-known/matrix/server", Access::Open, server);
    routes.raw(Method::GET, "/.well-known/matrix/support", Access::Open, support);
    routes.raw(Method::GET, "/.well-known/matrix/policy_server", Access::Open, policy_server);
}

async fn client(app: App, _: Call) -> Result<Response, Failure> {
    let base_url = base_url(&app)?;
    let fields = app.config.well_known.client.as_deref();
    let mut fields: Map<String, Value> =
        fields.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    // Where older versions of Element Call look.
    let foci = foci(&app.config);
    if !foci.is_empty() {
        fields.entry("org.matrix.msc4143.rtc_foci").or_insert(Value::from(foci));
    }
    fields.insert(String::from("m.homeserver"), json!({ "base_url": base_url }));
    Ok(axum::Json(fields).into_response())
}

async fn server(app: App, _: Call) -> Result<Response, Failure> {
    let server = match &app.config.well_known.server {
        Some(server) => Some(server.clone()),
        None => delegated(base_url(&app)?),
    };
    let server = server.ok_or_else(|| Failure::not_found("Not configured"))?;
    Ok(axum::Json(json!({ "m.server": server })).into_response())
}

/// <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixsupport>
async fn support(app: App, _: Call) -> Result<Response, Failure> {
    let config = &app.config.well_known;
    let mut document = Map::new();
    let mut contact = Map::new();
    if let Some(email) = &config.support_email {
        contact.insert(String::from("email_address"), Value::from(email.as_str()));
    }
    if let Some(user) = &config.support_matrix_id {
        contact.insert(String::from("matrix_id"), Value::from(user.as_str()));
    }
    if !contact.is_empty() {
        contact.insert(String::from("role"), Value::from("m.role.admin"));
        document.insert(String::from("contacts"), json!([contact]));
    }
    if let Some(page) = &config.support_page {
        document.insert(String::from("support_page"), Value::from(page.as_str()));
    }
    match document.is_empty() {
        true => Err(Failure::not_found("Not configured")),
        false => Ok(axum::Json(document).into_response()),
    }
}

/// <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixpolicy_server>
async fn policy_server(app: App, _: Call) -> Result<Response, Failure> {
    let key = app.config.well_known.policy_server_key.as_deref();
    let key = key.ok_or_else(|| Failure::not_found("Not configured"))?;
    Ok(axum::Json(json!({ "public_keys": { "ed25519": key } })).into_response())
}

fn base_url(app: &App) -> Result<&str, Failure> {
    let url = app.config.public_base_url.as_deref();
    url.map(|url| url.trim_end_matches('/')).ok_or_else(|| Failure::not_found("Not configured"))
}

/// Host and port of the server at `base_url`. Without a port other servers would try 8448.
fn delegated(base_url: &str) -> Option<String> {
    let uri: Uri = base_url.parse().ok()?;
    let host = uri.host()?;
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    Some(format!("{host}:{}", uri.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::delegated;

    #[test]
    fn delegation_always_names_the_port() {
        assert_eq!(delegated("https://m.example.org").as_deref(), Some("m.example.org:443"));
        assert_eq!(delegated("https://m.example.org:8448").as_deref(), Some("m.example.org:8448"));
        assert_eq!(delegated("https://[::1]:1").as_deref(), Some("[::1]:1"));
    }
}
