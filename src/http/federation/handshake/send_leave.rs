//! `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid>

use axum::{Json, response::IntoResponse};
use ruma::api::federation::membership::create_leave_event::v2::{Request, Response};
use serde_json::json;

use super::{Handed, handed};
use crate::http::{App, Call, Failure, federation::Origin};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let given = handed(&origin, (&request.room_id, &request.event_id), &request.pdu);
    app.federation.send_leave(given).await?;
    Ok(Response::new())
}

/// The first version of the endpoint: a pair of the number 200 and the answer.
pub(super) async fn handle_v1(app: App, call: Call) -> Result<axum::response::Response, Failure> {
    let given = Handed::read(&call)?;
    app.federation.send_leave(given.as_given()).await?;
    Ok(Json(json!([200, {}])).into_response())
}
