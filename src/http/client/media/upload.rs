//! `POST /_matrix/media/v3/upload`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload>

use axum::{
    body::{Body, HttpBody},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, header};
use serde::Deserialize;
use serde_json::json;

use super::query;
use crate::{
    http::{App, Call, Failure, Routes},
    media::{self, MediaError, Offered},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in ["/_matrix/media/v3/upload", "/_matrix/media/r0/upload", "/_matrix/media/v1/upload"] {
        routes.streamed(Method::POST, path, handle);
    }
}

async fn handle(app: App, call: Call, body: Body) -> Result<Response, Failure> {
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    let offered = offered(&call, &body)?;
    let uri = app.media.upload(&caller.user_id, offered, pieces(body)).await?;
    Ok(axum::Json(json!({ "content_uri": uri })).into_response())
}

#[derive(Deserialize)]
struct Name {
    filename: Option<String>,
}

/// What is said about a file beside its bytes.
pub(super) fn offered(call: &Call, body: &Body) -> Result<Offered, Failure> {
    let Name { filename } = query(call)?;
    let kind = call.parts.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str());
    let kind = kind.transpose().map_err(|_| Failure::invalid_param("The content type is not ASCII"))?;
    let content_type = kind.map(String::from);
    Ok(Offered { content_type, filename, size: body.size_hint().exact() })
}

/// The body as the files take it.
pub(super) fn pieces(body: Body) -> media::Body {
    body.into_data_stream().map_err(|error| MediaError::Broken(error.to_string())).boxed()
}
