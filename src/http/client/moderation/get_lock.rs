//! `GET /_matrix/client/v1/admin/lock/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1adminlockuserid>

use ruma::api::client::admin::is_user_locked::v1::{Request, Response};

use super::examine;
use crate::{
    account::Caller,
    http::{App, Failure, Peer},
};

pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    Ok(Response::new(examine(&app, (&caller, &peer), &request.user_id).await?.locked))
}
