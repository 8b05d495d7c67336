//! `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid>

use std::collections::BTreeMap;

use ruma::api::client::backup::add_backup_keys_for_session::v3;

use super::{count, raw_keys};
use crate::{
    account::Caller,
    device::BackupKeys,
    http::{App, Failure},
};

/// Stores the key of a session in the caller's current backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let sessions = BTreeMap::from([(request.session_id, request.session_data)]);
    let keys = BackupKeys::from([(request.room_id, raw_keys(sessions))]);
    let state = app.devices.put_backup_keys(&caller.user_id, &request.version, &keys).await?;
    Ok(v3::Response::new(state.etag.clone(), count(&state)))
}
