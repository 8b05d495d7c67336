//! `PUT /_matrix/client/v3/devices/{deviceId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid>

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use ruma::api::client::device::update_device::v3;
use serde_json::json;

use crate::{
    device::DeviceError,
    http::{Access, App, Call, Failure, Routes},
};

/// Adds the endpoint. ruma has no status 201.
pub(super) fn route(routes: &mut Routes) {
    for path in ["/_matrix/client/r0/devices/{device_id}", "/_matrix/client/v3/devices/{device_id}"] {
        routes.raw(Method::PUT, path, Access::Required, handle);
    }
}

/// Renames one of the caller's devices. An application service may make one like this.
async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    let given = call.decode::<v3::Request>()?;
    let (user_id, v3::Request { device_id, display_name, .. }) = (&caller.user_id, given.request);
    // <https://spec.matrix.org/v1.19/application-service-api/#server-admin-style-permissions>
    let found = app.devices.device(user_id, &device_id).await;
    if given.peer.appservice.is_some() && matches!(found, Err(DeviceError::NotFound(_))) {
        app.accounts.make_device(user_id, &device_id, display_name).await?;
        return Ok((StatusCode::CREATED, axum::Json(json!({}))).into_response());
    }
    match &display_name {
        Some(name) => app.devices.rename(user_id, &device_id, name).await?,
        None => drop(found?),
    }
    Ok(axum::Json(json!({})).into_response())
}
