//! `POST /_matrix/client/v3/join/{roomIdOrAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias>

use ruma::{
    RoomAliasId,
    api::client::membership::join_room_by_id_or_alias::v3::{Request, Response},
};

use super::{redeem, said};
use crate::{
    account::Caller,
    http::{App, Body, Failure, meet_alias},
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    if let Ok(alias) = <&RoomAliasId>::try_from(&*request.room_id_or_alias) {
        app.rooms.check_alias_welcome(&caller.user_id, alias).await?;
        meet_alias(&app, alias).await?;
    }
    let (room, via) = app.rooms.find(&request.room_id_or_alias, &request.via).await?;
    redeem(&app, &caller.user_id, (&room, &body)).await?;
    app.rooms.enter(&caller.user_id, &room, &via, (request.reason.as_deref(), said(&body)?)).await?;
    Ok(Response::new(room))
}
