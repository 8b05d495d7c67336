//! `DELETE /_matrix/client/v3/room_keys/version/{version}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keysversionversion>

use ruma::api::client::backup::delete_backup_version::v3;

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Deletes a backup with its keys.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    app.devices.delete_backup(&caller.user_id, &request.version).await?;
    Ok(v3::Response::new())
}
