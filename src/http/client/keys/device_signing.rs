//! `POST /_matrix/client/v3/keys/device_signing/upload`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysdevice_signingupload>

use ruma::api::client::keys::upload_signing_keys::v3;

use crate::{
    account::{Caller, Target},
    device::CrossSigningKeys,
    http::{App, Failure, Peer, prove},
};

/// Publishes the caller's cross-signing keys. Who replaces keys has to prove who they are.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: v3::Request,
) -> Result<v3::Response, Failure> {
    let keys = CrossSigningKeys {
        master: request.master_key,
        self_signing: request.self_signing_key,
        user_signing: request.user_signing_key,
    };
    let target = Target::of((&keys.master, &keys.self_signing, &keys.user_signing));
    let change = app.devices.check_cross_signing(&caller.user_id, &keys).await?;
    // Who acts for its users has proved with its own token who it is.
    if change.needs_auth() && peer.appservice.is_none() {
        prove(&app, ("device_signing", &caller), (request.auth.as_ref(), target)).await?;
    }
    app.devices.apply_cross_signing(change).await?;
    Ok(v3::Response::new())
}
