//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid>

use ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing};

use crate::{
    account::Caller,
    http::{App, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<Request, _>(handle);
}

async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    if request.user_id != caller.user_id {
        return Err(Failure::forbidden("Nobody types for somebody else"));
    }
    let typing = match request.state {
        Typing::No => None,
        Typing::Yes(info) => Some(Some(u64::try_from(info.timeout.as_millis()).unwrap_or(u64::MAX))),
    };
    app.ephemeral.set_typing(&request.room_id, &caller.user_id, typing).await?;
    Ok(Response::new())
}
