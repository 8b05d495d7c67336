//! `POST /_matrix/client/v3/rooms/{roomId}/invite`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use http::StatusCode;
use ruma::api::{
    client::membership::invite_user::v3::{InvitationRecipient, Request, Response},
    error::ErrorKind,
};

use crate::{
    account::Caller,
    http::{App, Failure, meet_users},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let InvitationRecipient::UserId(invited) = request.recipient else {
        let message = "This server invites by Matrix id only";
        return Err(Failure::new(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message));
    };
    meet_users(&app, std::slice::from_ref(&invited.user_id)).await?;
    let reason = invited.reason.as_deref();
    app.rooms.invite(&caller.user_id, &request.room_id, &invited.user_id, reason).await?;
    Ok(Response::new())
}
