//! `POST /_matrix/client/v3/logout`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout>

use ruma::api::client::session::logout::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    app.devices.remove(&caller.user_id, &[caller.device_id]).await?;
    Ok(Response::new())
}
