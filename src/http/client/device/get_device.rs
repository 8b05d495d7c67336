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
    let ids = [request.device_id];
    let seen = app.accounts.last_seen(&caller.user_id, &ids).await?.pop().flatten();
    let [device_id] = ids;
    Ok(v3::Response { device: render(((device_id, row), seen)) })
}
