//! `GET /_matrix/key/v2/query/{serverName}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>

use ruma::api::federation::discovery::get_remote_server_keys::v2::{Request, Response};

use crate::{
    http::{App, Failure},
    peer::{Asked, Query},
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let asked = Asked::All(Some(request.minimum_valid_until_ts));
    let query = Query::from([(request.server_name, asked)]);
    Ok(Response::new(app.peers.notarise(query).await))
}
