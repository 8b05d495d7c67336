//! Files that were uploaded here, for other servers.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::time::Duration;

use axum::{body::Body, extract::Query, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, header};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    http::{Access, App, Call, Failure, Routes, file},
    media::{Door, File, MediaError, Wanted},
    types::random_string,
};

mod download;
mod thumbnail;

pub(super) fn routes(routes: &mut Routes) {
    for (download, thumbnail) in [
        (
            "/_matrix/federation/v1/media/download/{media_id}",
            "/_matrix/federation/v1/media/thumbnail/{media_id}",
        ),
        (
            "/_matrix/federation/unstable/org.matrix.msc3916.v2/media/download/{media_id}",
            "/_matrix/federation/unstable/org.matrix.msc3916.v2/media/thumbnail/{media_id}",
        ),
    ] {
        routes.raw(Method::GET, download, Access::Signed, download::handle);
        routes.raw(Method::GET, thumbnail, Access::Signed, thumbnail::handle);
    }
}

/// Random characters in a boundary.
const BOUNDARY_CHARACTERS: usize = 40;
/// How long a file that is not uploaded yet is waited for when nothing is said.
const TIMEOUT_MS: u64 = 20_000;

#[derive(Deserialize)]
struct Manner {
    timeout_ms: Option<u64>,
}

fn wanted<'a>(app: &'a App, call: &'a Call) -> Result<Wanted<'a>, Failure> {
    let Manner { timeout_ms } = query(call)?;
    let id = call.path.first().map(String::as_str).unwrap_or_default();
    let timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS));
    Ok(Wanted { server: &app.server_name, id, door: Door::Server, timeout, allow_remote: false })
}

fn query<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    let query = Query::<T>::try_from_uri(&call.parts.uri);
    Ok(query.map_err(|error| Failure::invalid_param(error.to_string()))?.0)
}

/// Two parts: what is known of the file beside its bytes, which is nothing, and the file.
async fn send(app: &App, file: &File) -> Result<Response, Failure> {
    let boundary = random_string(app.ports.rng.as_ref(), BOUNDARY_CHARACTERS);
    let (kind, disposition) = file::description(file);
    let text = |value: &HeaderValue| value.to_str().map(String::from).map_err(Failure::internal);
    let before = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\nContent-Type: {}\r\n\
         Content-Disposition: {}\r\n\r\n",
        text(&kind)?,
        text(&disposition)?
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = (before.len() + after.len()) as u64 + file.size;
    let around = |text: String| stream::iter([Ok::<Bytes, MediaError>(Bytes::from(text))]);
    let body = around(before).chain(app.media.read(file, None).await?).chain(around(after));
    let mut response = Response::new(Body::from_stream(body));
    let kind = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind.map_err(Failure::internal)?);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
