//! The administration API, under the paths that Synapse made the custom.
//!
//! It is for administrators, and for commands of the operator's, who prove themselves by the secret in the data folder.

use std::pin::Pin;

use axum::response::{IntoResponse, Response};
use http::Method;
use serde_json::Value;

use super::{Access, App, Call, Failure, Routes};

mod appservices;
mod media;
mod notices;
mod operator;
mod register;
mod reports;
mod rooms;
mod servers;
mod tokens;
mod users;
mod version;

use operator::admit;
pub use operator::{PROOF, is_administrator, proof};

/// Adds the endpoints of the administration API.
pub fn routes(routes: &mut Routes) {
    appservices::routes(routes);
    register::routes(routes);
    media::routes(routes);
    notices::routes(routes);
    reports::routes(routes);
    rooms::routes(routes);
    servers::routes(routes);
    tokens::routes(routes);
    users::routes(routes);
    version::routes(routes);
}

type Pending = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;

/// Adds an endpoint that admits whom [`admit`] does.
fn add(routes: &mut Routes, method: Method, path: &'static str, handler: fn(App, Call) -> Pending) {
    routes.raw(method, path, Access::Optional, handler);
}

fn answer(value: Value) -> Response {
    axum::Json(value).into_response()
}
