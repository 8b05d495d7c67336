//! `GET /_matrix/client/v1/media/preview_url` and `GET /_matrix/media/v3/preview_url`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>

use axum::response::{IntoResponse, Response};
use http::Method;
use serde::Deserialize;

use super::query;
use crate::http::{Access, App, Call, Failure, Routes};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in [
        "/_matrix/client/v1/media/preview_url",
        "/_matrix/client/unstable/org.matrix.msc3916/media/preview_url",
        "/_matrix/media/v3/preview_url",
        "/_matrix/media/r0/preview_url",
        "/_matrix/media/v1/preview_url",
    ] {
        routes.raw(Method::GET, path, Access::Required, handle);
    }
}

/// What is asked for. How the page was at some moment is not known, so a wish for that is not listened to.
#[derive(Deserialize)]
struct Asked {
    url: String,
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Asked { url } = query(&call)?;
    if app.media.settings().previews.is_none() {
        return Err(Failure::unrecognized());
    }
    Ok(axum::Json(app.media.preview(&url).await?).into_response())
}
