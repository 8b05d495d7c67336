//! `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname>

use ruma::api::client::profile::delete_profile_field::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    super::change(&app, &caller.user_id, request.field.as_str(), None).await?;
    Ok(Response::new())
}
