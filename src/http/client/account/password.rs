//! `POST /_matrix/client/v3/account/password`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword>

use ruma::api::client::account::change_password::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure, prove},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    prove(&app, ("account/password", &caller), request.auth.as_ref()).await?;
    app.accounts.set_password(&caller.user_id, &request.new_password).await?;
    if request.logout_devices {
        app.devices.remove_all(&caller.user_id, Some(&caller.device_id)).await?;
    }
    Ok(Response::new())
}
