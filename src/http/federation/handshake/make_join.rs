//! `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid>

use ruma::api::federation::membership::prepare_join_event::v1::{Request, Response};

use super::raw;
use crate::{
    http::{App, Failure, federation::Origin},
    types::Membership,
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let Request { room_id, user_id, ver, .. } = request;
    let template = app.federation.make(&origin, Membership::Join, (&room_id, &user_id), Some(&ver)).await?;
    let mut response = Response::new(raw(&template.event)?);
    response.room_version = Some(template.version);
    Ok(response)
}
