//! Joins, leaves, knocks and invites of users of other servers.

mod exchange;
mod invite;
mod invite_v1;
mod make_join;
mod make_knock;
mod make_leave;
mod onbind;
mod send_join;
mod send_knock;
mod send_leave;

use http::Method;
use ruma::{CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Origin;
use crate::{
    federation::HandedOver,
    http::{Access, App, Call, Failure, Routes, meet_users},
    room::Invitation,
};

const SEND_JOIN_V1: &str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
const SEND_LEAVE_V1: &str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";
const ONBIND: &str = "/_matrix/federation/v1/3pid/onbind";
const INVITE_V2: &str = "/_matrix/federation/v2/invite/{room_id}/{event_id}";
const INVITE_V1: &str = "/_matrix/federation/v1/invite/{room_id}/{event_id}";

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(exchange::handle);
    routes.add(make_join::handle);
    routes.add(make_knock::handle);
    routes.add(make_leave::handle);
    routes.add(onbind::handle);
    routes.add(send_join::handle);
    routes.add(send_knock::handle);
    routes.add(send_leave::handle);
    routes.raw(Method::POST, ONBIND, Access::Open, onbind::handle_post);
    routes.raw(Method::PUT, SEND_JOIN_V1, Access::Signed, send_join::handle_v1);
    routes.raw(Method::PUT, SEND_LEAVE_V1, Access::Signed, send_leave::handle_v1);
    routes.raw(Method::PUT, INVITE_V2, Access::Signed, invite::handle);
    routes.raw(Method::PUT, INVITE_V1, Access::Signed, invite_v1::handle);
}

fn raw(object: &CanonicalJsonObject) -> Result<Box<RawValue>, Failure> {
    to_raw_value(object).map_err(Failure::internal)
}

fn handed<'a>(
    origin: &'a Origin,
    (room, event_id): (&'a RoomId, &'a EventId),
    pdu: &'a RawValue,
) -> HandedOver<'a> {
    HandedOver { origin, room, event_id, pdu }
}

/// Hands on an invite, unless its server has brought too many or the user has got too many.
async fn invite(app: &App, named: &Named, invitation: Invitation) -> Result<CanonicalJsonObject, Failure> {
    #[derive(Deserialize)]
    struct Event {
        state_key: OwnedUserId,
    }
    // What names nobody is refused below.
    if let Ok(event) = serde_json::from_str::<Event>(invitation.event.get()) {
        app.throttle.admit_invite(&named.origin, &event.state_key)?;
        meet_users(app, std::slice::from_ref(&event.state_key)).await?;
    }
    Ok(app.federation.invite(&named.origin, (&named.room, &named.event_id), invitation).await?)
}

/// Who asks a hand-written endpoint, and what its path names.
struct Named {
    origin: OwnedServerName,
    room: OwnedRoomId,
    event_id: OwnedEventId,
}

impl Named {
    fn read(call: &Call) -> Result<Self, Failure> {
        let origin = call.origin.as_ref().ok_or_else(Failure::missing_token)?;
        let [room, event_id] = call.path.as_slice() else { return Err(Failure::unrecognized()) };
        let malformed = |_| Failure::invalid_param("The path names no event of a room");
        Ok(Self {
            origin: origin.0.clone(),
            room: OwnedRoomId::try_from(room.as_str()).map_err(malformed)?,
            event_id: OwnedEventId::try_from(event_id.as_str()).map_err(malformed)?,
        })
    }
}

/// An event that a hand-written endpoint is given.
struct Handed {
    named: Named,
    pdu: Box<RawValue>,
}

impl Handed {
    fn read(call: &Call) -> Result<Self, Failure> {
        Ok(Self { named: Named::read(call)?, pdu: call.json()? })
    }

    fn as_given(&self) -> HandedOver<'_> {
        let Named { origin, room, event_id } = &self.named;
        HandedOver { origin, room, event_id, pdu: &self.pdu }
    }
}
