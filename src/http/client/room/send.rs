//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use ruma::{
    OwnedEventId,
    api::client::message::send_message_event::v3::{Request, Response},
    events::MessageLikeEventType,
};

use crate::{
    account::Caller,
    http::{App, Failure, Peer, standing},
    room::{Message, Txn},
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    if request.event_type == MessageLikeEventType::RoomRedaction
        && let Ok(Some(target)) = request.body.get_field::<OwnedEventId>("redacts")
    {
        standing::redacts(&app, &caller, &target).await?;
    }
    let message = Message {
        event_type: request.event_type.to_string().into(),
        content: request.body.into_json(),
        txn: Some(Txn { device: caller.device_id, id: request.txn_id.to_string() }),
    };
    let moment = request.timestamp.filter(|_| peer.appservice.is_some());
    let event_id = app.rooms.dated(moment).send(&caller.user_id, &request.room_id, message).await?;
    app.ephemeral.note_event(&request.room_id, &caller.user_id).await;
    Ok(Response::new(event_id))
}
