//! `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use ruma::api::client::dehydrated_device::put_dehydrated_device::unstable;

use crate::{
    account::Caller,
    device::{KeyUpload, NewDehydrated},
    http::{App, Failure},
};

/// Stores a dehydrated device in place of the one before.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    request: unstable::Request,
) -> Result<unstable::Response, Failure> {
    let device_data = serde_json::from_str(request.device_data.json().get())
        .map_err(|error| Failure::bad_json(error.to_string()))?;
    let new = NewDehydrated {
        device_id: request.device_id,
        device_data,
        display_name: request.initial_device_display_name,
        keys: KeyUpload {
            device_keys: Some(request.device_keys),
            one_time_keys: request.one_time_keys,
            fallback_keys: request.fallback_keys,
        },
    };
    app.devices.dehydrate(&caller.user_id, &new).await?;
    Ok(unstable::Response::new(new.device_id))
}
