//! `PUT /_matrix/client/v3/devices/{deviceId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid>

use ruma::api::client::device::update_device::v3;

use crate::{
    account::Caller,
    http::{App, Failure, Peer},
};

/// Renames one of the caller's devices. An application service may make one like this.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: v3::Request,
) -> Result<v3::Response, Failure> {
    let makes = peer.appservice.is_some_and(|appservice| appservice.registration.makes_devices());
    if makes && app.devices.device(&caller.user_id, &request.device_id).await.is_err() {
        // MSC4190
        app.accounts.make_device(&caller.user_id, &request.device_id, request.display_name).await?;
        return Ok(v3::Response::new());
    }
    match &request.display_name {
        Some(name) => app.devices.rename(&caller.user_id, &request.device_id, name).await?,
        None => drop(app.devices.device(&caller.user_id, &request.device_id).await?),
    }
    Ok(v3::Response::new())
}
