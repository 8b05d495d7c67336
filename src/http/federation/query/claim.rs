//! `POST /_matrix/federation/v1/user/keys/claim`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim>

use ruma::api::federation::keys::claim_keys::v1::{Request, Response};

use crate::http::{App, Failure, bridged, federation::Origin};

pub(super) async fn handle(app: App, _: Origin, request: Request) -> Result<Response, Failure> {
    let wanted = app.federation.claims(request.one_time_keys)?;
    Ok(Response::new(bridged::claim(&app, &wanted).await?.keys))
}
