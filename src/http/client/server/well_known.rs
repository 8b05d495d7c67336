//! `GET /.well-known/matrix/client` and `GET /.well-known/matrix/server`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#well-known-uris>

use axum::response::{IntoResponse, Response};
use http::{Method, Uri};
use serde_json::json;

use crate::http::{Access, App, Call, Failure, Routes};

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::GET, "/.well-known/matrix/client", Access::Open, client);
    routes.raw(Method::GET, "/.well-known/matrix/server", Access::Open, server);
}

async fn client(app: App, _: Call) -> Result<Response, Failure> {
    let base_url = base_url(&app)?;
    Ok(axum::Json(json!({ "m.homeserver": { "base_url": base_url } })).into_response())
}

async fn server(app: App, _: Call) -> Result<Response, Failure> {
    let server = delegated(base_url(&app)?).ok_or_else(|| Failure::not_found("Not configured"))?;
    Ok(axum::Json(json!({ "m.server": server })).into_response())
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
