//! `GET /_matrix/client/v3/devices/{deviceId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devicesdeviceid>

use ruma::api::client::device::get_device::v3;

use super::get_devices::render;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Shows one of the caller's devices.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let row = app.devices.device(&caller.user_id, &request.device_id).await?;
    Ok(v3::Response { device: render(&app.accounts, &caller.user_id, (request.device_id, row)) })
}
