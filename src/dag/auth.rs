//! The authorisation rules: may this event be, given that state?
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

use ruma::{
    EventId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::{
        StateMap, auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
    },
};

use super::pdu::{Pdu, create_of_room};

/// The rules forbid the event; the text says which rule, in words for a developer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// The state that a check against the rules of `event` can look at: prefetch these.
///
/// An error if the event is malformed so that the rules cannot even select.
pub fn state_keys(event: &Pdu, rules: &AuthorizationRules) -> Result<Vec<(StateEventType, String)>, Denied> {
    if *event.event_type() == TimelineEventType::RoomCreate {
        return Ok(Vec::new());
    }
    let mut keys = auth_events_keys(event, rules)?;
    let create = (StateEventType::RoomCreate, String::new());
    if !keys.contains(&create) {
        keys.push(create);
    }
    Ok(keys)
}

/// The state that `event` must name in its `auth_events`, where it exists.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
pub fn auth_events_keys(
    event: &Pdu,
    rules: &AuthorizationRules,
) -> Result<Vec<(StateEventType, String)>, Denied> {
    auth_types_for_event(event.event_type(), event.sender(), event.state_key(), event.content(), rules)
        .map_err(Denied)
}

/// Checks `event` whole: its `auth_events`, the state that they are, and `state`.
///
/// `fetch_event` must know every auth event and, since room version 12, the create event: one that it
/// does not know counts against the event. [`super::judge`] tells missing from denied.
pub fn check(
    event: &Pdu,
    rules: &AuthorizationRules,
    fetch_event: impl Fn(&EventId) -> Option<Pdu>,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
) -> Result<(), Denied> {
    check_selection(event, rules, &fetch_event)?;
    let named = named_state(event, rules, &fetch_event);
    check_against(event, rules, |event_type, key| {
        named.get(&(event_type.clone(), String::from(key))).cloned()
    })?;
    check_against(event, rules, state)
}

/// Checks what does not depend on state: the create event's own form, and the choice of `auth_events`.
pub fn check_selection(
    event: &Pdu,
    rules: &AuthorizationRules,
    fetch_event: impl Fn(&EventId) -> Option<Pdu>,
) -> Result<(), Denied> {
    check_state_independent_auth_rules(rules, event, fetch_event).map_err(Denied)
}

/// Checks `event` against one state of the room.
pub fn check_against(
    event: &Pdu,
    rules: &AuthorizationRules,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
) -> Result<(), Denied> {
    check_state_dependent_auth_rules(rules, event, state).map_err(Denied)
}

/// The state that the `auth_events` of `event` make, with the create event that version 12 implies.
pub fn named_state(
    event: &Pdu,
    rules: &AuthorizationRules,
    fetch_event: impl Fn(&EventId) -> Option<Pdu>,
) -> StateMap<Pdu> {
    let implied = match rules.room_create_event_id_as_room_id {
        true => create_of_room(event.room_id()),
        false => None,
    };
    event
        .auth_events()
        .iter()
        .chain(&implied)
        .filter_map(|id| fetch_event(id))
        .filter_map(|named| Some((named.state_position()?, named)))
        .collect()
}
