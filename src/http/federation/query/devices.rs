//! `GET /_matrix/federation/v1/user/devices/{userId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid>

use ruma::{
    UInt,
    api::federation::device::get_devices::v1::{Request, Response, UserDevice},
    assign,
    encryption::DeviceKeys,
    serde::Raw,
};
use serde_json::Value;

use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let user = request.user_id;
    let mut found = app.federation.device_list(&origin, &user).await?;
    let devices = found.keys.device_keys.remove(&user).unwrap_or_default();
    let devices = devices.into_iter().map(|(device, keys)| {
        let name = display_name(&keys);
        assign!(UserDevice::new(device, keys), { device_display_name: name })
    });
    let stream_id = UInt::try_from(found.stream_id).unwrap_or(UInt::MAX);
    Ok(assign!(Response::new(user.clone(), stream_id), {
        devices: devices.collect(),
        master_key: found.keys.master_keys.remove(&user),
        self_signing_key: found.keys.self_signing_keys.remove(&user),
    }))
}

fn display_name(keys: &Raw<DeviceKeys>) -> Option<String> {
    let unsigned: Value = keys.get_field("unsigned").ok()??;
    Some(String::from(unsigned.get("device_display_name")?.as_str()?))
}
