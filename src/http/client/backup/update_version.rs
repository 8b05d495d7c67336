//! `PUT /_matrix/client/v3/room_keys/version/{version}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keysversionversion>

use ruma::api::client::backup::update_backup_version::v3;

use super::Described;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Changes the `auth_data` of a backup.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let Described { algorithm, auth_data, version } = Described::read(&request.algorithm)?;
    if version.is_some_and(|version| version != request.version) {
        return Err(Failure::invalid_param("The version in the body is not the one in the path"));
    }
    app.devices.update_backup(&caller.user_id, &request.version, (&algorithm, &auth_data)).await?;
    Ok(v3::Response::new())
}
