//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid>

use ruma::api::client::redact::redact_event::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure, standing},
    room::Txn,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let Request { room_id, event_id, txn_id, reason, .. } = request;
    standing::redacts(&app, &caller, &event_id).await?;
    let txn = Txn { device: caller.device_id, id: txn_id.to_string() };
    let event_id = app.rooms.redact(&caller.user_id, &room_id, &event_id, (reason, Some(txn))).await?;
    Ok(Response::new(event_id))
}
