//! `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use ruma::{api::client::dehydrated_device::get_dehydrated_device::unstable, serde::Raw};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Shows the caller's dehydrated device.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    _: unstable::Request,
) -> Result<unstable::Response, Failure> {
    let device = app.devices.dehydrated(&caller.user_id).await?;
    let data = Raw::new(&device.device_data).map_err(Failure::internal)?;
    Ok(unstable::Response::new(device.device_id, data.cast_unchecked()))
}
