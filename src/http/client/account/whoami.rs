//! `GET /_matrix/client/v3/account/whoami`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami>

use ruma::api::client::account::whoami::v3::{Request, Response};

use crate::{
    account::{Caller, NO_DEVICE},
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    let mut response = Response::new(caller.user_id.clone(), app.accounts.is_guest(&caller.user_id).await?);
    response.device_id = Some(caller.device_id).filter(|device| device.as_str() != NO_DEVICE);
    Ok(response)
}
