//! Application services, for administrators: those of the configuration are shown, others come and go.

use http::{Method, StatusCode};
use ruma::api::error::ErrorKind;
use serde_json::{Value, json};

use super::{add, admit, answer};
use crate::{
    appservice::{Appservice, Origin},
    delivery::RegisterError,
    http::{App, Call, Failure, Routes},
};

mod list;
mod put;
mod remove;

#[cfg(test)]
mod tests;

const ALL: &str = "/_lockstep/admin/v1/appservices";
const ONE: &str = "/_lockstep/admin/v1/appservices/{appservice_id}";

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::GET, ALL, |app, call| Box::pin(list::handle(app, call)));
    add(routes, Method::PUT, ONE, |app, call| Box::pin(put::handle(app, call)));
    add(routes, Method::DELETE, ONE, |app, call| Box::pin(remove::handle(app, call)));
}

/// The id in the path.
fn id(call: &Call) -> Result<&str, Failure> {
    let id = call.path.first().map(String::as_str).filter(|id| !id.is_empty());
    id.ok_or_else(|| Failure::invalid_param("The path names no application service"))
}

/// An application service as it is told, and how its deliveries stand. Its tokens are secrets.
async fn told(app: &App, appservice: &Appservice) -> Result<Value, Failure> {
    let row = app.appservice_couriers.standing(appservice).await?.unwrap_or_default();
    let registration = &appservice.registration;
    let origin = match appservice.origin {
        Origin::File => "configuration",
        Origin::Store => "added",
    };
    let trouble = row.trouble.as_ref();
    Ok(json!({
        "id": registration.id,
        "url": registration.url,
        "sender": appservice.sender,
        "origin": origin,
        "protocols": registration.protocols.as_deref().unwrap_or_default(),
        "rate_limited": registration.is_limited(),
        "receive_ephemeral": registration.wants_ephemeral(),
        "transactions": row.taken,
        "lag": row.lag(app.log.head()),
        "failing_since_ts": trouble.map(|trouble| trouble.failing_since_ms),
        "retry_at_ts": trouble.map(|trouble| trouble.retry_at_ms),
        "failures": trouble.map_or(0, |trouble| trouble.failures),
        "last_error": trouble.map(|trouble| &trouble.last_error),
    }))
}

fn refused(error: RegisterError) -> Failure {
    let message = error.to_string();
    match error {
        RegisterError::Invalid(_) | RegisterError::Clash(_) => Failure::invalid_param(message),
        RegisterError::Configured => Failure::new(StatusCode::CONFLICT, ErrorKind::Unknown, message),
        RegisterError::Account(error) => error.into(),
        RegisterError::Commit(error) => error.into(),
        RegisterError::Store(error) => error.into(),
    }
}
