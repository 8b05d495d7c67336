//! `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3useruseridroomsroomidtagstag>

use ruma::api::client::tag::delete_tag::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    app.accounts.set_tag(&caller.user_id, &request.room_id, (&request.tag, None)).await?;
    Ok(Response::new())
}
