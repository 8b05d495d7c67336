//! `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid>

use ruma::api::federation::membership::prepare_leave_event::v1::{Request, Response};

use super::raw;
use crate::http::{App, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let template = app.federation.make_leave(&origin, &request.room_id, &request.user_id).await?;
    Ok(Response::new(Some(template.version), raw(&template.event)?))
}
