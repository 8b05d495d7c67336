//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid>

use ruma::{
    api::federation::thirdparty::exchange_invite::v1::{Request, Response},
    events::StateEventType,
};
use serde_json::Value;

use crate::{
    federation::Exchange,
    http::{App, Failure, federation::Origin},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let Request { room_id, kind, sender, state_key, content, .. } = request;
    let invite: Option<Value> = content.get_field("third_party_invite").ok().flatten();
    let signed = invite.and_then(|invite| invite.get("signed").cloned());
    let Some(signed) = signed.filter(|_| kind == StateEventType::RoomMember) else {
        return Err(Failure::bad_json("The event is no invite by address"));
    };
    app.federation.exchange(&origin, &room_id, Exchange { sender, user: state_key, signed }).await?;
    Ok(Response::new())
}
