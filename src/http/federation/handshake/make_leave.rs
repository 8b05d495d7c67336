//! `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid>

use ruma::api::federation::membership::prepare_leave_event::v1::{Request, Response};

use super::raw;
use crate::{
    http::{App, Failure, federation::Origin},
    types::Membership,
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let Request { room_id, user_id, .. } = request;
    let template = app.federation.make(&origin, Membership::Leave, (&room_id, &user_id), None).await?;
    Ok(Response::new(Some(template.version), raw(&template.event)?))
}
