//! `PUT /_matrix/client/v3/devices/{deviceId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid>

use ruma::api::client::device::update_device::v3;

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Renames one of the caller's devices.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    match &request.display_name {
        Some(name) => app.devices.rename(&caller.user_id, &request.device_id, name).await?,
        None => drop(app.devices.device(&caller.user_id, &request.device_id).await?),
    }
    Ok(v3::Response::new())
}
