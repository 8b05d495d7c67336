//! Users, for administrators.

use http::Method;
use ruma::{OwnedUserId, UserId};

use super::{add, admit, answer};
use crate::http::{App, Call, Failure, Routes};

mod erase;
mod lock;
mod suspend;
mod whois;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::POST, "/_lockstep/admin/v1/users/{user_id}/erase", |app, call| {
        Box::pin(erase::handle(app, call))
    });
    add(routes, Method::PUT, "/_lockstep/admin/v1/users/{user_id}/lock", |app, call| {
        Box::pin(lock::handle(app, call))
    });
    add(routes, Method::PUT, "/_synapse/admin/v1/suspend/{user_id}", |app, call| {
        Box::pin(suspend::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/whois/{user_id}", |app, call| {
        Box::pin(whois::handle(app, call))
    });
}

/// The user in the path, who belongs to this server.
fn user(app: &App, call: &Call) -> Result<OwnedUserId, Failure> {
    let user = call.path.first().and_then(|text| UserId::parse(text.as_str()).ok());
    let user = user.ok_or_else(|| Failure::invalid_param("The path names no user"))?;
    match *user.server_name() == app.server_name {
        true => Ok(user),
        false => Err(Failure::invalid_param("The user belongs to another server")),
    }
}

/// The user in the path, whose account is in use.
async fn active(app: &App, call: &Call) -> Result<OwnedUserId, Failure> {
    let user = user(app, call)?;
    match app.accounts.is_active(&user).await? {
        true => Ok(user),
        false => Err(Failure::not_found("There is no such user")),
    }
}
