//! `GET /_matrix/federation/v1/version`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>

use ruma::api::federation::discovery::get_server_version::v1::{Request, Response, Server};

use crate::http::{App, Failure};

pub(super) async fn handle(_: App, _: Request) -> Result<Response, Failure> {
    let mut server = Server::new();
    server.name = Some(String::from("Lockstep"));
    server.version = Some(String::from(env!("CARGO_PKG_VERSION")));
    let mut response = Response::new();
    response.server = Some(server);
    Ok(response)
}
