//! `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use ruma::api::client::dehydrated_device::delete_dehydrated_device::unstable;

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Removes the caller's dehydrated device.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    _: unstable::Request,
) -> Result<unstable::Response, Failure> {
    Ok(unstable::Response::new(app.devices.remove_dehydrated(&caller.user_id).await?))
}
