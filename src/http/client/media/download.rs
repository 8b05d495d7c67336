//! `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`, the same with `/{fileName}`, and the older paths
//! under `/_matrix/media`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid>

use axum::response::Response;

use super::{Manner, address, query};
use crate::{
    http::{App, Call, Failure, file},
    media::{Door, Given},
};

pub(super) async fn handle(app: App, call: Call, door: Door) -> Result<Response, Failure> {
    let (server, id) = address(&call)?;
    let manner: Manner = query(&call)?;
    let wanted = manner.wanted((&server, &id), door);
    let given = match file::may_come(&call.parts) {
        true => app.media.give(wanted).await?,
        false => Given::Here(app.media.find(wanted).await?),
    };
    let name = call.path.get(2).cloned();
    match given {
        Given::Here(mut file) => {
            file.filename = name.or(file.filename);
            file::send(&app, &file, (&call.parts.headers, door)).await
        }
        Given::Coming(mut coming) => {
            coming.filename = name.or(coming.filename);
            Ok(file::pass(coming))
        }
    }
}
