//! `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`, the same with `/{fileName}`, and the older paths
//! under `/_matrix/media`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid>

use axum::response::Response;

use super::{Manner, address, query};
use crate::{
    http::{App, Call, Failure, file},
    media::Door,
};

pub(super) async fn handle(app: App, call: Call, door: Door) -> Result<Response, Failure> {
    let (server, id) = address(&call)?;
    let manner: Manner = query(&call)?;
    let mut file = app.media.find(manner.wanted((&server, &id), door)).await?;
    if let Some(name) = call.path.get(2) {
        file.filename = Some(name.clone());
    }
    file::send(&app, &file, (&call.parts.headers, door)).await
}
