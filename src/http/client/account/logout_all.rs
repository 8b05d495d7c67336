//! `POST /_matrix/client/v3/logout/all`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall>

use ruma::api::client::session::logout_all::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    app.devices.remove_all(&caller.user_id, None).await?;
    Ok(Response::new())
}
