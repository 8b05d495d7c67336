//! `POST /_matrix/client/v3/rooms/{roomId}/kick`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick>

use ruma::api::client::membership::kick_user::v3::{Request, Response};

use super::put_out;
use crate::{
    account::Caller,
    http::{App, Body, Failure},
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    let whom = (&*request.room_id, &*request.user_id);
    put_out(&app, (&caller, &body), (whom, Membership::Leave), request.reason.as_deref()).await?;
    Ok(Response::new())
}
