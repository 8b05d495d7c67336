//! `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreporteventid>

use ruma::api::client::room::report_content::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let (place, reason) = ((&*request.room_id, &*request.event_id), request.reason.unwrap_or_default());
    app.reports.of_event(&caller.user_id, place, reason).await?;
    Ok(Response::new())
}
