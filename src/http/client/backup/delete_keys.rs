//! `DELETE /_matrix/client/v3/room_keys/keys`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keyskeys>

use ruma::api::client::backup::delete_backup_keys::v3;

use super::count;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Deletes keys from a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let of = (None, None);
    let state = app.devices.delete_backup_keys(&caller.user_id, &request.version, of).await?;
    Ok(v3::Response::new(state.etag.clone(), count(&state)))
}
