//! `GET /_matrix/client/v3/voip/turnServer`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver>

use ruma::api::client::voip::get_turn_server_info::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request: this server knows no TURN server.
pub(super) async fn handle(_app: App, _caller: Caller, _request: Request) -> Result<Response, Failure> {
    Err(Failure::not_found("There is no TURN server"))
}
