//! What somebody who is invited, or knocks, may know of a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use ruma::{UserId, events::StateEventType};

use super::{RoomError, turn::Turn};
use crate::{
    dag::{Pdu, StateKey},
    history::{stripped, tables::StrippedRow},
    types::Membership,
};

/// The events that say what kind of room it is.
const TELLING: [StateEventType; 8] = [
    StateEventType::RoomCreate,
    StateEventType::RoomJoinRules,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
    StateEventType::RoomHistoryVisibility,
];

/// Where they stand.
pub(super) fn telling() -> Vec<StateKey> {
    TELLING.into_iter().map(|event_type| StateKey::new(event_type, "")).collect()
}

/// Where they stand, and who says so: an invite is shown with the name of its sender.
pub(super) fn telling_by(sender: &UserId) -> Vec<StateKey> {
    let sender = StateKey::new(StateEventType::RoomMember, sender.as_str());
    telling().into_iter().chain([sender]).collect()
}

/// What the user may know to whom `pdu`, an event of `turn`, is an invite or whose knock it is.
pub(super) async fn of(turn: &Turn, pdu: &Pdu) -> Result<Option<StrippedRow>, RoomError> {
    if !matches!(pdu.membership(), Some(Membership::Invite | Membership::Knock)) {
        return Ok(None);
    }
    let keys = telling_by(pdu.sender());
    let places = turn.places(&keys).await?;
    let mut state = Vec::new();
    for key in &keys {
        if let Some(told) = places.get(&key.event_type, &key.state_key)
            && told.event_id() != pdu.event_id()
        {
            state.push(stripped(&told)?);
        }
    }
    state.push(stripped(pdu)?);
    Ok(Some(StrippedRow { state, via: Vec::new() }))
}
