//! `GET /_matrix/client/v3/thirdparty/protocols`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3thirdpartyprotocols>

use std::collections::BTreeMap;

use ruma::api::client::thirdparty::get_protocols::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request: there are no bridges to other networks.
pub(super) async fn handle(_app: App, _caller: Caller, _request: Request) -> Result<Response, Failure> {
    Ok(Response::new(BTreeMap::new()))
}
