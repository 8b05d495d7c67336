//! Files, for administrators: quarantine, deletion, and what users have uploaded.

use axum::response::{IntoResponse, Response};
use http::Method;
use ruma::{OwnedServerName, ServerName, UserId};
use serde_json::Value;

use crate::http::{Access, App, Call, Failure, Routes};

mod delete;
mod delete_of_user;
mod list_of_user;
mod purge_cache;
mod quarantine;
mod unquarantine;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    let mut add =
        |method, path, handler: fn(App, Call) -> Pending| routes.raw(method, path, Access::Required, handler);
    type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;
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

/// Refuses whoever is no administrator.
async fn admit(app: &App, call: &Call) -> Result<(), Failure> {
    let caller = call.caller.as_ref().ok_or_else(Failure::missing_token)?;
    match app.accounts.user(&caller.user_id).await?.is_some_and(|user| user.admin) {
        true => Ok(()),
        false => Err(Failure::forbidden("Only administrators of the server may do this")),
    }
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

fn answer(value: Value) -> Response {
    axum::Json(value).into_response()
}
