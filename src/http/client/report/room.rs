//! `POST /_matrix/client/v3/rooms/{roomId}/report`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreport>

use ruma::api::client::room::report_room::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.reports.of_room(&caller.user_id, &request.room_id, request.reason).await?;
    Ok(Response::new())
}
