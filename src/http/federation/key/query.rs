//! `GET /_matrix/key/v2/query/{serverName}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>

use std::collections::BTreeMap;

use ruma::api::federation::discovery::get_remote_server_keys::v2::{Request, Response};

use crate::{
    http::{App, Failure},
    peer::Query,
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    // All of its keys are asked for; the default of the criterion is the moment itself.
    let query = Query::from([(request.server_name, BTreeMap::new())]);
    Ok(Response::new(app.peers.notarise(query).await))
}
