//! `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias>

use ruma::{
    RoomAliasId,
    api::client::knock::knock_room::v3::{Request, Response},
};

use crate::{
    account::Caller,
    http::{App, Failure, meet_alias},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    if let Ok(alias) = <&RoomAliasId>::try_from(&*request.room_id_or_alias) {
        app.rooms.check_alias_welcome(&caller.user_id, alias).await?;
        meet_alias(&app, alias).await?;
    }
    let (room, via) = app.rooms.find(&request.room_id_or_alias, &request.via).await?;
    app.rooms.call_at(&caller.user_id, &room, &via, request.reason.as_deref()).await?;
    Ok(Response::new(room))
}
