//! `GET /_matrix/client/v3/devices`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices>

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId,
    api::client::device::{Device, get_devices::v3},
};

use crate::{
    account::{Caller, Device as Row, Seen},
    http::{App, Failure},
};

/// Lists the caller's devices.
pub(super) async fn handle(app: App, caller: Caller, _: v3::Request) -> Result<v3::Response, Failure> {
    let rows = app.devices.list(&caller.user_id).await?;
    let ids: Vec<_> = rows.iter().map(|(id, _)| id.clone()).collect();
    let seen = app.accounts.last_seen(&caller.user_id, &ids).await?;
    Ok(v3::Response { devices: rows.into_iter().zip(seen).map(render).collect() })
}

/// A device as its user sees it.
pub(super) fn render(((device_id, row), seen): ((OwnedDeviceId, Row), Option<Seen>)) -> Device {
    let last_seen_ts = seen.as_ref().and_then(|seen| seen.at_ms.try_into().ok());
    Device {
        device_id,
        display_name: row.display_name,
        last_seen_ip: seen.and_then(|seen| seen.ip),
        last_seen_ts: last_seen_ts.map(MilliSecondsSinceUnixEpoch),
    }
}
