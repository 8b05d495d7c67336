//! `POST /_matrix/federation/v1/user/keys/claim`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim>

use ruma::api::federation::keys::claim_keys::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, _: Origin, request: Request) -> Result<Response, Failure> {
    Ok(Response::new(app.federation.claim_keys(request.one_time_keys).await?.keys))
}
