//! `POST /_matrix/client/v3/rooms/{roomId}/invite`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use http::StatusCode;
use ruma::api::{
    client::membership::invite_user::v3::{InvitationRecipient, Request, Response},
    error::ErrorKind,
};
use serde_json::Map;

use crate::{
    account::Caller,
    http::{App, Failure, identity::invite_address, meet_users},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let invited = match request.recipient {
        InvitationRecipient::UserId(invited) => invited,
        InvitationRecipient::ThirdPartyId(invited) if app.identity.is_on() => {
            let by = (&*caller.user_id, &*request.room_id);
            invite_address(&app, by, &invited, Map::new()).await?;
            return Ok(Response::new());
        }
        _ => {
            let message = "This server invites by Matrix id only";
            return Err(Failure::new(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message));
        }
    };
    meet_users(&app, std::slice::from_ref(&invited.user_id)).await?;
    let reason = invited.reason.as_deref();
    app.rooms.invite(&caller.user_id, &request.room_id, &invited.user_id, reason).await?;
    Ok(Response::new())
}
