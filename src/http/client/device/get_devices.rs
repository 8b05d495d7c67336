//! `GET /_matrix/client/v3/devices`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices>

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, UserId,
    api::client::device::{Device, get_devices::v3},
};

use crate::{
    account::{Accounts, Caller, Device as Row},
    http::{App, Failure},
};

/// Lists the caller's devices.
pub(super) async fn handle(app: App, caller: Caller, _: v3::Request) -> Result<v3::Response, Failure> {
    let rows = app.devices.list(&caller.user_id).await?;
    let devices =
        rows.into_iter().map(|(id, row)| render(&app.accounts, &caller.user_id, (id, row))).collect();
    Ok(v3::Response { devices })
}

/// A device as its user sees it.
pub(super) fn render(accounts: &Accounts, user: &UserId, (device_id, row): (OwnedDeviceId, Row)) -> Device {
    let seen = accounts.last_seen(user, &device_id);
    let last_seen_ts = seen.as_ref().and_then(|(at_ms, _)| (*at_ms).try_into().ok());
    Device {
        device_id,
        display_name: row.display_name,
        last_seen_ip: seen.and_then(|(_, ip)| ip),
        last_seen_ts: last_seen_ts.map(MilliSecondsSinceUnixEpoch),
    }
}
