//! `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag>

use ruma::api::client::tag::create_tag::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let info = serde_json::to_value(&request.tag_info).map_err(Failure::internal)?;
    app.accounts.set_tag(&caller.user_id, &request.room_id, (&request.tag, Some(info))).await?;
    Ok(Response::new())
}
