//! `POST /_matrix/client/v3/room_keys/version`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3room_keysversion>

use ruma::api::client::backup::create_backup_version::v3;

use super::Described;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Creates a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let Described { algorithm, auth_data, .. } = Described::read(&request.algorithm)?;
    Ok(v3::Response::new(app.devices.create_backup(&caller.user_id, algorithm, auth_data).await?))
}
