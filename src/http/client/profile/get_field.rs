//! `GET /_matrix/client/v3/profile/{userId}/{keyName}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname>

use ruma::{
    api::client::profile::get_profile_field::v3::{Request, Response},
    profile::ProfileFieldValue,
};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let mut profile = app.federation.profile_of(&request.user_id, Some(request.field.as_str())).await?;
    let name = request.field.as_str();
    let Some(value) = profile.remove(name) else {
        return Err(Failure::not_found("The profile has no such field"));
    };
    let value = ProfileFieldValue::new(name, value).map_err(Failure::internal)?;
    Ok(Response { value: Some(value) })
}
