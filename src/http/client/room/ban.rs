//! `POST /_matrix/client/v3/rooms/{roomId}/ban`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban>

use ruma::api::client::membership::ban_user::v3::{Request, Response};

use super::sweeps;
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
    let (sender, room, user) = (&caller.user_id, &request.room_id, &request.user_id);
    let reason = request.reason.as_deref();
    match sweeps(&app, &body)? {
        true => app.rooms.sweep(sender, room, (user, Membership::Ban), reason).await?,
        false => app.rooms.ban(sender, room, user, reason).await?,
    }
    app.ephemeral.note_removal(&request.room_id, &request.user_id).await;
    Ok(Response::new())
}
