//! `POST /_matrix/federation/v1/user/keys/query`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery>

use ruma::{
    api::federation::keys::get_keys::v1::{Request, Response},
    assign,
};

use crate::http::{App, Failure, bridged, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let wanted = request.device_keys;
    let mut found = app.federation.keys(&origin, wanted.clone()).await?;
    bridged::query(&app, None, (&wanted, &mut found)).await?;
    Ok(assign!(Response::new(found.device_keys), {
        master_keys: found.master_keys,
        self_signing_keys: found.self_signing_keys,
    }))
}
