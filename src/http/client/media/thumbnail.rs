//! `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`, and the older paths under `/_matrix/media`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid>

use axum::response::Response;
use serde::Deserialize;

use super::{Manner, address, query};
use crate::{
    http::{App, Call, Failure, file, throttle::network},
    media::{self, Door, Shape},
};

/// What is asked for.
#[derive(Deserialize)]
struct Size {
    width: u64,
    height: u64,
    #[serde(default)]
    method: Method,
    animated: Option<bool>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Crop,
    #[default]
    Scale,
}

pub(super) async fn handle(app: App, call: Call, door: Door) -> Result<Response, Failure> {
    let (server, id) = address(&call)?;
    let manner: Manner = query(&call)?;
    let Size { width, height, method, animated } = query(&call)?;
    let method = match method {
        Method::Crop => media::Method::Crop,
        Method::Scale => media::Method::Scale,
    };
    let shape = Shape::fitting(width, height, method, animated == Some(true))?;
    let address = || call.peer.ip.map(|ip| network(ip).to_string());
    let asker = call.caller.as_ref().map(|caller| caller.user_id.to_string()).or_else(address);
    let file = app.media.thumbnail(manner.wanted((&server, &id), door), shape, asker.as_deref()).await?;
    file::send(&app, &file, (&call.parts.headers, door)).await
}
