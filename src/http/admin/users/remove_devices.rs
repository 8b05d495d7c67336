//! `DELETE /_synapse/admin/v2/users/{userId}/devices/{deviceId}` and
//! `POST /_synapse/admin/v2/users/{userId}/delete_devices`: devices are logged out.

use axum::response::Response;
use http::Method;
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    devices: Vec<OwnedDeviceId>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let devices = match call.parts.method == Method::POST {
        true => call.json::<Asked>()?.devices,
        false => call.path.get(1).map(|id| OwnedDeviceId::from(id.as_str())).into_iter().collect(),
    };
    let user = user(&app, &call)?;
    app.devices.remove(&user, &devices).await?;
    Ok(answer(json!({})))
}
