//! `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediathumbnailmediaid>

use axum::response::Response;
use serde::Deserialize;

use super::{query, send, wanted};
use crate::{
    http::{App, Call, Failure},
    media::{Method, Shape},
};

/// What is asked for.
#[derive(Deserialize)]
struct Size {
    width: u64,
    height: u64,
    method: Option<String>,
    animated: Option<bool>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Size { width, height, method, animated } = query(&call)?;
    let method = match method.as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(Failure::invalid_param("A thumbnail is cropped or scaled")),
    };
    let shape = Shape::fitting(width, height, method, animated == Some(true))?;
    let asker = call.origin.as_ref().map(|origin| origin.0.as_str());
    let file = app.media.thumbnail(wanted(&app, &call)?, shape, asker).await?;
    send(&app, &file).await
}
