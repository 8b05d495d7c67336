//! `GET /_matrix/client/v3/room_keys/keys/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeysroomid>

use axum::response::Response;
use ruma::api::client::backup::get_backup_keys_for_room::v3;

use super::reading::{Shape, answer};
use crate::http::{App, Call, Failure, call::Given};

/// Reads keys of a room from a backup.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { caller, request, .. } = call.decode::<v3::Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    let keys = app.devices.backup_range(&caller.user_id, &request.version, Some(&request.room_id)).await?;
    answer(&app, keys, Shape::Sessions).await
}
