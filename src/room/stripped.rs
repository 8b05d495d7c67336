//! What somebody who is invited, or knocks, may know of a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use ruma::{UserId, events::StateEventType};

use super::{RoomError, turn::Turn};
use crate::{
    dag::{Pdu, StateKey},
    history::{stripped, tables::StrippedRow},
    limits::STRIPPED_BYTES_MAX,
    types::Membership,
};

/// The events that say what kind of room it is. What is needed most comes first: what does not fit is left out.
const TELLING: [StateEventType; 8] = [
    StateEventType::RoomCreate,
    StateEventType::RoomJoinRules,
    StateEventType::RoomName,
    StateEventType::RoomEncryption,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
];

/// Where they stand.
pub(super) fn telling() -> Vec<StateKey> {
    TELLING.into_iter().map(|event_type| StateKey::new(event_type, "")).collect()
}

/// Where they stand, and who says so: an invite is shown with the name of its sender.
pub(super) fn telling_by(sender: &UserId) -> Vec<StateKey> {
    let sender = StateKey::new(StateEventType::RoomMember, sender.as_str());
    let mut keys = telling();
    keys.insert(1, sender);
    keys
}

/// What the user may know to whom `pdu`, an event of `turn`, is an invite or whose knock it is.
pub(super) async fn of(turn: &Turn, pdu: &Pdu) -> Result<Option<StrippedRow>, RoomError> {
    if !matches!(pdu.membership(), Some(Membership::Invite | Membership::Knock)) {
        return Ok(None);
    }
    let told = told(turn, &telling_by(pdu.sender())).await?;
    let told = told.iter().filter(|told| told.event_id() != pdu.event_id()).chain([pdu]);
    let state: Result<_, _> = told.map(stripped).collect();
    Ok(Some(StrippedRow { state: state?, via: Vec::new() }))
}

/// The events at `keys`, as far as whoever is told them takes them: no more is said than is believed of others.
pub(super) async fn told(turn: &Turn, keys: &[StateKey]) -> Result<Vec<Pdu>, RoomError> {
    let places = turn.places(keys).await?;
    let (mut told, mut left) = (Vec::new(), STRIPPED_BYTES_MAX);
    for key in keys {
        let Some(pdu) = places.get(&key.event_type, &key.state_key) else { continue };
        if let Some(rest) = left.checked_sub(pdu.json().get().len()) {
            left = rest;
            told.push(pdu);
        }
    }
    Ok(told)
}
