//! `GET /_matrix/oauth2/style.css`: how the pages look.

use axum::response::{IntoResponse, Response};
use http::{Method, header};

use crate::http::{Access, App, Call, Failure, Routes};

const STYLE: &str = include_str!("style.css");

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::GET, "/_matrix/oauth2/style.css", Access::Open, handle);
}

async fn handle(_: App, _: Call) -> Result<Response, Failure> {
    let headers = [(header::CONTENT_TYPE, "text/css"), (header::CACHE_CONTROL, "public, max-age=3600")];
    Ok((headers, STYLE).into_response())
}
