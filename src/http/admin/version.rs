//! `GET /_synapse/admin/v1/server_version`: which program this is.

use axum::response::Response;
use http::Method;
use serde_json::json;

use super::{add, admit, answer};
use crate::http::{App, Call, Failure, Routes};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::GET, "/_synapse/admin/v1/server_version", |app, call| Box::pin(handle(app, call)));
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    Ok(answer(json!({ "server_version": concat!("Lockstep ", env!("CARGO_PKG_VERSION")) })))
}
