//! Users, for administrators.

use http::Method;
use ruma::{OwnedUserId, UserId};

use super::{add, admit, answer};
use crate::http::{App, Call, Failure, Routes};

mod admin;
mod available;
mod deactivate;
mod devices;
mod encryption;
mod erase;
mod get;
mod joined_rooms;
mod list;
mod lock;
mod pushers;
mod put;
mod redact;
mod reject_invites;
mod remove_devices;
mod reset_password;
mod suspend;
mod whois;

#[cfg(test)]
mod redact_tests;
#[cfg(test)]
mod tests;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::POST, "/_lockstep/admin/v1/users/{user_id}/erase", |app, call| {
        Box::pin(erase::handle(app, call))
    });
    add(routes, Method::GET, "/_lockstep/admin/v1/users/{user_id}/encryption", |app, call| {
        Box::pin(encryption::handle(app, call))
    });
    add(routes, Method::POST, "/_lockstep/admin/v1/users/{user_id}/reject_invites", |app, call| {
        Box::pin(reject_invites::handle(app, call))
    });
    add(routes, Method::PUT, "/_lockstep/admin/v1/users/{user_id}/lock", |app, call| {
        Box::pin(lock::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/users/{user_id}/pushers", |app, call| {
        Box::pin(pushers::handle(app, call))
    });
    add(routes, Method::PUT, "/_synapse/admin/v1/suspend/{user_id}", |app, call| {
        Box::pin(suspend::handle(app, call))
    });
    for path in ["/_synapse/admin/v2/users", "/_synapse/admin/v3/users"] {
        add(routes, Method::GET, path, |app, call| Box::pin(list::handle(app, call)));
    }
    add(routes, Method::POST, "/_synapse/admin/v1/reset_password/{user_id}", |app, call| {
        Box::pin(reset_password::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/users/{user_id}/joined_rooms", |app, call| {
        Box::pin(joined_rooms::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v2/users/{user_id}/devices", |app, call| {
        Box::pin(devices::handle(app, call))
    });
    for (method, path) in [
        (Method::DELETE, "/_synapse/admin/v2/users/{user_id}/devices/{device_id}"),
        (Method::POST, "/_synapse/admin/v2/users/{user_id}/delete_devices"),
    ] {
        add(routes, method, path, |app, call| Box::pin(remove_devices::handle(app, call)));
    }
    add(routes, Method::GET, "/_synapse/admin/v2/users/{user_id}", |app, call| {
        Box::pin(get::handle(app, call))
    });
    add(routes, Method::PUT, "/_synapse/admin/v2/users/{user_id}", |app, call| {
        Box::pin(put::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/username_available", |app, call| {
        Box::pin(available::handle(app, call))
    });
    for method in [Method::GET, Method::PUT] {
        add(routes, method, "/_synapse/admin/v1/users/{user_id}/admin", |app, call| {
            Box::pin(admin::handle(app, call))
        });
    }
    add(routes, Method::POST, "/_synapse/admin/v1/deactivate/{user_id}", |app, call| {
        Box::pin(deactivate::handle(app, call))
    });
    add(routes, Method::POST, "/_synapse/admin/v1/user/{user_id}/redact", |app, call| {
        Box::pin(redact::handle(app, call))
    });
    add(routes, Method::GET, "/_synapse/admin/v1/user/redact_status/{redact_id}", |app, call| {
        Box::pin(redact::handle_status(app, call))
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

/// The user in the path, who has an account, though it may have ended.
async fn known(app: &App, call: &Call) -> Result<OwnedUserId, Failure> {
    let user = user(app, call)?;
    match app.accounts.user(&user).await? {
        Some(_) => Ok(user),
        None => Err(Failure::not_found("There is no such user")),
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
