//! `GET /_matrix/client/v3/room_keys/keys`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeys>

use ruma::api::client::backup::{RoomKeyBackup, get_backup_keys::v3};

use super::typed_keys;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Reads keys from a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let of = (None, None);
    let keys = app.devices.backup_keys(&caller.user_id, &request.version, of).await?;
    let rooms = keys.into_iter().map(|(room, keys)| (room, RoomKeyBackup::new(typed_keys(keys)))).collect();
    Ok(v3::Response::new(rooms))
}
