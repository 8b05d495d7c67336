//! `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeysroomidsessionid>

use ruma::{api::client::backup::get_backup_keys_for_session::v3, serde::Raw};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Reads the key of a session from a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let of = (&*request.room_id, request.session_id.as_str());
    let key = app.devices.backup_key(&caller.user_id, &request.version, of).await?;
    let key = key.ok_or_else(|| Failure::not_found("No such key"))?;
    Ok(v3::Response::new(Raw::from_json(key)))
}
