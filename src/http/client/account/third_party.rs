//! `GET /_matrix/client/v3/account/3pid`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3account3pid>

use ruma::api::client::account::get_3pids::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(_: App, _: Caller, _: Request) -> Result<Response, Failure> {
    Ok(Response::new(Vec::new()))
}
