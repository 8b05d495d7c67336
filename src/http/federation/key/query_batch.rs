//! `POST /_matrix/key/v2/query`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query>

use std::collections::BTreeMap;

use ruma::api::federation::discovery::get_remote_server_keys_batch::v2::{Request, Response};

use crate::{
    http::{App, Failure},
    peer::{Asked, Query},
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let mut query = Query::new();
    for (server, keys) in request.server_keys {
        let ids = keys.into_iter().map(|(id, wanted)| (id.to_string(), wanted.minimum_valid_until_ts));
        let ids: BTreeMap<_, _> = ids.collect();
        query.insert(server, if ids.is_empty() { Asked::All(None) } else { Asked::Some(ids) });
    }
    Ok(Response::new(app.peers.notarise(query).await))
}
