//! `PUT /_matrix/client/v1/admin/suspend/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv1adminsuspenduserid>

use ruma::api::client::admin::suspend_user::v1::{Request, Response};

use super::change;
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
    change(&app, (&caller, &peer), &request.user_id, |user| user.suspended = request.suspended).await?;
    Ok(Response::new(request.suspended))
}
