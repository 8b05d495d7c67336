//! `GET /_matrix/client/v3/room_keys/keys/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeysroomid>

use ruma::api::client::backup::get_backup_keys_for_room::v3;

use super::typed_keys;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Reads keys of a room from a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let of = (Some(&*request.room_id), None);
    let keys = app.devices.backup_keys(&caller.user_id, &request.version, of).await?;
    let sessions = keys.into_values().next().map(typed_keys).unwrap_or_default();
    Ok(v3::Response::new(sessions))
}
