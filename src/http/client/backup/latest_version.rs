//! `GET /_matrix/client/v3/room_keys/version`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keysversion>

use ruma::api::client::backup::get_latest_backup_info::v3;

use super::{count, describe};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Describes the caller's current backup.
pub(super) async fn handle(app: App, caller: Caller, _: v3::Request) -> Result<v3::Response, Failure> {
    let info = app.devices.latest_backup(&caller.user_id).await?;
    let (algorithm, count) = (describe(&info)?, count(&info.state));
    Ok(v3::Response { algorithm, count, etag: info.state.etag, version: info.version })
}
