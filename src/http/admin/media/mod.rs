//! Files, for administrators: quarantine, deletion, and what users have uploaded.

use http::Method;
use ruma::{OwnedServerName, ServerName, UserId};

use super::{add, admit, answer};
use crate::http::{App, Call, Failure, Routes};

mod delete;
mod delete_of_user;
mod list_of_user;
mod purge_cache;
mod quarantine;
mod unquarantine;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    let mut add = |method, path, handler| add(routes, method, path, handler);
    add(Method::POST, "/_synapse/admin/v1/media/quarantine/{server_name}/{media_id}", |app, call| {
        Box::pin(quarantine::handle(app, call))
    });
    add(Method::POST, "/_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}", |app, call| {
        Box::pin(unquarantine::handle(app, call))
    });
    add(Method::DELETE, "/_synapse/admin/v1/media/{server_name}/{media_id}", |app, call| {
        Box::pin(delete::handle(app, call))
    });
    add(Method::POST, "/_synapse/admin/v1/purge_media_cache", |app, call| {
        Box::pin(purge_cache::handle(app, call))
    });
    add(Method::GET, "/_synapse/admin/v1/users/{user_id}/media", |app, call| {
        Box::pin(list_of_user::handle(app, call))
    });
    add(Method::DELETE, "/_synapse/admin/v1/users/{user_id}/media", |app, call| {
        Box::pin(delete_of_user::handle(app, call))
    });
}

/// The address in the path.
fn address(call: &Call) -> Result<(OwnedServerName, String), Failure> {
    let [server, id] = call.path.as_slice() else { return Err(Failure::not_found("There is no such file")) };
    let server = ServerName::parse(server.as_str());
    let server = server.map_err(|_| Failure::invalid_param("The address names no server"))?;
    Ok((server, id.clone()))
}

/// The user in the path, who belongs to this server.
fn user(app: &App, call: &Call) -> Result<ruma::OwnedUserId, Failure> {
    let user = call.path.first().and_then(|text| UserId::parse(text.as_str()).ok());
    let user = user.ok_or_else(|| Failure::invalid_param("The path names no user"))?;
    match *user.server_name() == app.server_name {
        true => Ok(user),
        false => Err(Failure::invalid_param("The user belongs to another server")),
    }
}
