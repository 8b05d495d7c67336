//! `GET /_matrix/federation/v1/query/{queryType}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryquerytype>

use ruma::api::federation::query::get_custom_information::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin};

/// There are no questions beside those that have endpoints of their own.
pub(super) async fn handle(_: App, _: Origin, _: Request) -> Result<Response, Failure> {
    Err(Failure::unrecognized())
}
