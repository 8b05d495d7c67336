//! `POST /_matrix/client/v3/rooms/{roomId}/join`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin>

use ruma::api::client::membership::join_room_by_id::v3::{Request, Response};

use super::{redeem, said};
use crate::{
    account::Caller,
    http::{App, Body, Failure},
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    let said = (request.reason.as_deref(), said(&body)?);
    redeem(&app, &caller.user_id, (&request.room_id, &body)).await?;
    app.rooms.enter(&caller.user_id, &request.room_id, &[], said).await?;
    Ok(Response::new(request.room_id))
}
