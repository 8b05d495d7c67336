//! `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixmediav3uploadservernamemediaid>

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::Method;
use serde_json::json;

use super::{
    address,
    upload::{offered, pieces},
};
use crate::http::{App, Call, Failure, Routes};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in [
        "/_matrix/media/v3/upload/{server_name}/{media_id}",
        "/_matrix/media/unstable/fi.mau.msc2246/upload/{server_name}/{media_id}",
    ] {
        routes.streamed(Method::PUT, path, handle);
    }
}

async fn handle(app: App, call: Call, body: Body) -> Result<Response, Failure> {
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    let (server, id) = address(&call)?;
    let offered = offered(&call, &body)?;
    app.media.upload_to(&caller.user_id, (&server, &id), (offered, pieces(body))).await?;
    Ok(axum::Json(json!({})).into_response())
}
