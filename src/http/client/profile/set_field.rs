//! `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname>

use ruma::api::client::profile::set_profile_field::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let name = request.value.field_name().as_str().to_owned();
    super::own(&caller, &request.user_id)?;
    let value = request.value.value().into_owned();
    super::change(&app, &caller.user_id, &name, Some(value)).await?;
    Ok(Response::new())
}
