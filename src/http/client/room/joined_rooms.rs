//! `GET /_matrix/client/v3/joined_rooms`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms>

use ruma::api::client::membership::joined_rooms::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, _request: Request) -> Result<Response, Failure> {
    let rooms = app.history.joined_rooms(&caller.user_id).await?;
    Ok(Response::new(rooms))
}
