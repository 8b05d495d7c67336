//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use ruma::{
    OwnedRoomId, RoomAliasId,
    api::client::room::get_summary::v1::{Request, Response},
};

use crate::{
    account::Caller,
    http::{App, Failure},
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Option<Caller>, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    let unknown = || Failure::not_found("There is no such room, or you may not know of it");
    let room = match OwnedRoomId::try_from(request.room_id_or_alias) {
        Ok(room) => room,
        Err(alias) => {
            let alias = <&RoomAliasId>::try_from(alias.as_str()).map_err(|_| unknown())?;
            history.alias(alias).await?.ok_or_else(unknown)?.room_id
        }
    };
    let summary = history.summary(&room).await?.ok_or_else(unknown)?;
    let user = caller.as_ref().map(|caller| &*caller.user_id);
    if !history.may_preview(user, &summary).await? {
        return Err(unknown());
    }
    let mut response = Response::new(summary);
    if let Some(user) = user {
        let membership = history.membership(&room, user).await?.unwrap_or(Membership::Leave);
        response.membership = Some(membership.as_str().into());
    }
    Ok(response)
}
