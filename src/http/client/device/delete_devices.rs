//! `POST /_matrix/client/v3/delete_devices`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3delete_devices>

use ruma::api::client::device::delete_devices::v3;

use crate::{
    account::{Caller, Target},
    http::{App, Failure, Peer, prove},
    limits::DEVICES_NAMED_MAX,
};

/// Removes some of the caller's devices, once the caller has proved who they are.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: v3::Request,
) -> Result<v3::Response, Failure> {
    if request.devices.len() > DEVICES_NAMED_MAX {
        return Err(Failure::invalid_param("These are too many devices for one request"));
    }
    // Who acts for its users has proved with its own token who it is.
    if peer.appservice.is_none() {
        prove(&app, ("delete_devices", &caller), (request.auth.as_ref(), Target::of(&request.devices)))
            .await?;
    }
    app.devices.remove(&caller.user_id, &request.devices).await?;
    Ok(v3::Response::new())
}
