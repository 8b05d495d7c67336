//! The first version of the request with which a user of another server is invited, for servers that know no
//! other.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>

use ruma::{
    ServerName,
    api::{Metadata, federation::membership::create_invite::v1::Request, path_builder::PathBuilder},
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::offer::unsound;
use crate::{
    dag::Pdu,
    peer::Bounds,
    room::{RoomError, Rooms},
};

impl Rooms {
    /// Hands an invite to `server`, with what it tells of the room; the event as that server has signed it. The
    /// request is written by hand: ruma's type leaves out most of the event.
    pub(super) async fn invite_by_first_version(
        &self,
        server: &ServerName,
        (event, told): (&Pdu, &[Box<RawValue>]),
        bounds: Bounds,
    ) -> Result<Box<RawValue>, RoomError> {
        let unwritable = |error: &dyn std::fmt::Display| RoomError::BadJson(error.to_string());
        let mut object: Map<String, Value> =
            serde_json::from_str(event.json().get()).map_err(|error| unwritable(&error))?;
        object.insert(String::from("unsigned"), json!({ "invite_room_state": told }));
        let body = serde_json::to_vec(&object).map_err(|error| unwritable(&error))?;
        let target =
            Request::PATH_BUILDER.make_endpoint_url((), "", &[&event.room_id(), &event.event_id()], "");
        let target = target.map_err(|error| unwritable(&error))?;
        let answer = self.0.peers.put(server, &target, body, bounds).await?;
        read_signed_invite(&answer).map_err(|error| unsound(&error.to_string()))
    }
}

/// The event in the answer to such a request: a status in the body, and the event beside it.
///
/// # Errors
/// When the answer is none.
pub fn read_signed_invite(answer: &[u8]) -> Result<Box<RawValue>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Signed {
        event: Box<RawValue>,
    }
    serde_json::from_slice::<(u16, Signed)>(answer).map(|(_, signed)| signed.event)
}
