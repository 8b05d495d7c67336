//! `PUT /_matrix/client/v3/room_keys/keys`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeys>

use ruma::api::client::backup::add_backup_keys::v3;

use super::{count, raw_keys};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Stores keys in the caller's current backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let keys = request.rooms.into_iter().map(|(room, backup)| (room, raw_keys(backup.sessions))).collect();
    let state = app.devices.put_backup_keys(&caller.user_id, &request.version, &keys).await?;
    Ok(v3::Response::new(state.etag.clone(), count(&state)))
}
