//! Registration tokens, for administrators.

use http::Method;
use serde_json::{Value, json};

use super::{add, admit, answer};
use crate::{
    account::RegistrationToken,
    http::{Call, Failure, Routes},
};

mod change;
mod get;
mod list;
mod make;
mod remove;

const ALL: &str = "/_synapse/admin/v1/registration_tokens";
const NEW: &str = "/_synapse/admin/v1/registration_tokens/new";
const ONE: &str = "/_synapse/admin/v1/registration_tokens/{token}";

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::GET, ALL, |app, call| Box::pin(list::handle(app, call)));
    add(routes, Method::POST, NEW, |app, call| Box::pin(make::handle(app, call)));
    add(routes, Method::GET, ONE, |app, call| Box::pin(get::handle(app, call)));
    add(routes, Method::PUT, ONE, |app, call| Box::pin(change::handle(app, call)));
    add(routes, Method::DELETE, ONE, |app, call| Box::pin(remove::handle(app, call)));
}

/// The token in the path.
fn token(call: &Call) -> Result<&str, Failure> {
    let token = call.path.first().map(String::as_str).filter(|token| !token.is_empty());
    token.ok_or_else(|| Failure::invalid_param("The path names no token"))
}

/// A token as it is told.
fn told(token: &str, row: &RegistrationToken) -> Value {
    json!({
        "token": token,
        "uses_allowed": row.uses_allowed,
        "pending": 0,
        "completed": row.completed,
        "expiry_time": row.expires_ms,
    })
}

fn no_such_token() -> Failure {
    Failure::not_found("There is no such registration token")
}
