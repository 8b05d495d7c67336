//! `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidread_markers>

use ruma::api::client::read_marker::set_read_marker::v3::{Request, Response};

use super::Backward;
use crate::{
    account::Caller,
    ephemeral::{Markers, Thread},
    http::{App, Body, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<Request, _>(handle);
}

async fn handle(app: App, caller: Caller, body: Body, request: Request) -> Result<Response, Failure> {
    let markers = Markers {
        fully_read: request.fully_read,
        moves: body.json::<Backward>()?.moves(),
        read: request.read_receipt,
        read_private: request.private_read_receipt,
        thread: Thread::Unthreaded,
    };
    app.ephemeral.set_markers(&request.room_id, &caller.user_id, &markers).await?;
    Ok(Response::new())
}
