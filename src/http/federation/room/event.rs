//! `GET /_matrix/federation/v1/event/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>

use ruma::api::federation::event::get_event::v1::{Request, Response};

use crate::http::{
    App, Failure,
    federation::{Origin, now},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let pdu = app.federation.event(&origin, &request.event_id).await?;
    Ok(Response::new(app.server_name.clone(), now(&app), pdu))
}
