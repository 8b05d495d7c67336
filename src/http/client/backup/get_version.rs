//! `GET /_matrix/client/v3/room_keys/version/{version}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keysversionversion>

use ruma::api::client::backup::get_backup_info::v3;

use super::{count, describe};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Describes one of the caller's backups.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let info = app.devices.backup(&caller.user_id, &request.version).await?;
    let (algorithm, count) = (describe(&info)?, count(&info.state));
    Ok(v3::Response { algorithm, count, etag: info.state.etag, version: info.version })
}
