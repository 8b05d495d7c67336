//! Files: upload, download, thumbnails.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::time::Duration;

use axum::extract::Query;
use http::Method;
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    http::{Access, Call, Failure, Routes},
    media::{Door, Wanted},
};

mod config;
mod create;
mod download;
mod preview_url;
mod put;
mod thumbnail;
mod upload;

#[cfg(test)]
mod tests;

/// Versions of the paths under `/_matrix/media`, where anybody could ask until version 1.11.
const LEGACY: [[&str; 4]; 3] = [
    [
        "/_matrix/media/v3/download/{server_name}/{media_id}",
        "/_matrix/media/v3/download/{server_name}/{media_id}/{filename}",
        "/_matrix/media/v3/thumbnail/{server_name}/{media_id}",
        "/_matrix/media/v3/config",
    ],
    [
        "/_matrix/media/r0/download/{server_name}/{media_id}",
        "/_matrix/media/r0/download/{server_name}/{media_id}/{filename}",
        "/_matrix/media/r0/thumbnail/{server_name}/{media_id}",
        "/_matrix/media/r0/config",
    ],
    [
        "/_matrix/media/v1/download/{server_name}/{media_id}",
        "/_matrix/media/v1/download/{server_name}/{media_id}/{filename}",
        "/_matrix/media/v1/thumbnail/{server_name}/{media_id}",
        "/_matrix/media/v1/config",
    ],
];
/// The paths for users of this server.
const CURRENT: [[&str; 4]; 2] = [
    [
        "/_matrix/client/v1/media/download/{server_name}/{media_id}",
        "/_matrix/client/v1/media/download/{server_name}/{media_id}/{filename}",
        "/_matrix/client/v1/media/thumbnail/{server_name}/{media_id}",
        "/_matrix/client/v1/media/config",
    ],
    [
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}",
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}/{filename}",
        "/_matrix/client/unstable/org.matrix.msc3916/media/thumbnail/{server_name}/{media_id}",
        "/_matrix/client/unstable/org.matrix.msc3916/media/config",
    ],
];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    upload::routes(routes);
    create::routes(routes);
    put::routes(routes);
    preview_url::routes(routes);
    for [download, named, thumbnail, config] in CURRENT {
        routes.raw(Method::GET, download, Access::Required, |app, call| {
            download::handle(app, call, Door::User)
        });
        routes.raw(Method::GET, named, Access::Required, |app, call| download::handle(app, call, Door::User));
        routes.raw(Method::GET, thumbnail, Access::Required, |app, call| {
            thumbnail::handle(app, call, Door::User)
        });
        routes.raw(Method::GET, config, Access::Required, config::handle);
    }
    for [download, named, thumbnail, config] in LEGACY {
        routes.raw(Method::GET, download, Access::Open, |app, call| download::handle(app, call, Door::Open));
        routes.raw(Method::GET, named, Access::Open, |app, call| download::handle(app, call, Door::Open));
        routes
            .raw(Method::GET, thumbnail, Access::Open, |app, call| thumbnail::handle(app, call, Door::Open));
        routes.raw(Method::GET, config, Access::Required, config::handle);
    }
    routes.feature("org.matrix.msc3916.stable");
}

/// What every request for a file may say. That the client would follow a redirect is not made use of.
#[derive(Deserialize)]
struct Manner {
    timeout_ms: Option<u64>,
    allow_remote: Option<bool>,
}

/// How long a file that is not uploaded yet is waited for when nothing is said.
const TIMEOUT_MS: u64 = 20_000;

impl Manner {
    fn wanted<'a>(&self, (server, id): (&'a ServerName, &'a str), door: Door) -> Wanted<'a> {
        let timeout = Duration::from_millis(self.timeout_ms.unwrap_or(TIMEOUT_MS));
        Wanted { server, id, door, timeout, allow_remote: self.allow_remote.unwrap_or(true) }
    }
}

/// The query of a call.
fn query<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    let query = Query::<T>::try_from_uri(&call.parts.uri).map_err(|error| {
        // axum tells the reason as the source.
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        match text.contains("missing field") {
            true => Failure::missing_param(text),
            false => Failure::invalid_param(text),
        }
    })?;
    Ok(query.0)
}

/// The address in the path of a call.
fn address(call: &Call) -> Result<(OwnedServerName, String), Failure> {
    let [server, id, ..] = call.path.as_slice() else {
        return Err(Failure::not_found("There is no such file"));
    };
    let server = ServerName::parse(server.as_str());
    let server = server.map_err(|_| Failure::invalid_param("The address names no server"))?;
    Ok((server, id.clone()))
}
