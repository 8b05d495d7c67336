//! `GET /_matrix/key/v2/server`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>

use axum::response::{IntoResponse, Response as Answer};
use ruma::api::federation::discovery::get_server_keys::v2::{Request, Response};

use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, _: Request) -> Result<Response, Failure> {
    Ok(Response::new(app.peers.own_document().map_err(Failure::internal)?))
}

pub(super) async fn with_id(app: App, _: Call) -> Result<Answer, Failure> {
    Ok(axum::Json(app.peers.own_document().map_err(Failure::internal)?).into_response())
}
