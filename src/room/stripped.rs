//! What somebody who is invited, or knocks, may know of a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use std::mem;

use ruma::{OwnedRoomId, OwnedUserId, UserId, events::StateEventType};
use serde_json::{Value, value::RawValue};

use super::{RoomError, turn::Turn};
use crate::{
    dag::{Pdu, StateKey},
    history::{
        stripped,
        tables::{STRIPPED, StrippedRow},
    },
    limits::{STRIPPED_BYTES_MAX, STRIPPED_REWRITTEN_AT_ONCE},
    log::Commit,
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

impl Turn {
    /// Takes out of what users of ours were told who are invited or knock what a redaction takes out of `event`.
    ///
    /// Of many, all but the last go in commits before that of this turn: should it come to nothing, an invite says less
    /// than it might, and nothing that is redacted stays.
    pub(super) async fn untell(&mut self, event: &Pdu, redacted: &Pdu) -> Result<(), RoomError> {
        if event.state_key().is_none() {
            return Ok(());
        }
        let (told, left) = (stripped(event)?, stripped(redacted)?);
        let Some(retelling) = Retelling::new(&told, &left) else { return Ok(()) };
        for row in self.written.iter_mut().filter_map(|written| written.stripped.as_mut()) {
            if let Some(less) = retelling.of(row) {
                *row = less;
            }
        }
        let history = self.rooms.0.history.clone();
        let members = history.current_members(&self.room_id).await?;
        let waiting = members.with(Membership::Invite).chain(members.with(Membership::Knock));
        let waiting = waiting.filter(|user| history.is_local(user)).cloned();
        let waiting: Vec<(OwnedUserId, OwnedRoomId)> =
            waiting.map(|user| (user, self.room_id.clone())).collect();
        let mut changes: Vec<(_, StrippedRow, StrippedRow)> = Vec::new();
        for some in waiting.chunks(STRIPPED_REWRITTEN_AT_ONCE) {
            if !changes.is_empty() {
                let mut commit = Commit::new();
                mem::take(&mut changes).iter().for_each(|change| retell(&mut commit, change));
                history.log().commit(commit).await?;
            }
            let rows = history.log().db().rows(&STRIPPED, some).await?;
            changes.extend(some.iter().zip(rows).filter_map(|(key, row)| {
                let row = row?;
                let less = retelling.of(&row)?;
                Some((key.clone(), row, less))
            }));
        }
        if !changes.is_empty() {
            self.extra.push(Box::new(move |commit| {
                changes.iter().for_each(|change| retell(commit, change));
            }));
        }
        Ok(())
    }
}

/// Has a row be replaced, unless its user has answered meanwhile.
fn retell(commit: &mut Commit, (key, row, less): &((OwnedUserId, OwnedRoomId), StrippedRow, StrippedRow)) {
    commit.expect_equals(&STRIPPED, key, row);
    commit.put(&STRIPPED, key, less);
}

/// A stripped event that is told otherwise from now on. It has no id: it is known by all that it says, in whichever order.
struct Retelling<'a> {
    told: Value,
    left: &'a RawValue,
}

impl<'a> Retelling<'a> {
    /// Nothing, if there is no difference.
    fn new(told: &RawValue, left: &'a RawValue) -> Option<Self> {
        let [told, other] = [told, left].map(|event| serde_json::from_str(event.get()).unwrap_or_default());
        (told != other).then_some(Self { told, left })
    }

    /// A row in which it is told otherwise; nothing if it is not in it.
    fn of(&self, row: &StrippedRow) -> Option<StrippedRow> {
        let is_it =
            |event: &RawValue| serde_json::from_str::<Value>(event.get()).is_ok_and(|it| it == self.told);
        let is_here: Vec<bool> = row.state.iter().map(|event| is_it(event)).collect();
        if !is_here.contains(&true) {
            return None;
        }
        let state = row.state.iter().zip(is_here).map(|(event, is_it)| match is_it {
            true => self.left.to_owned(),
            false => event.clone(),
        });
        Some(StrippedRow { state: state.collect(), via: row.via.clone() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::Retelling;
    use crate::history::tables::StrippedRow;

    #[track_caller]
    fn check(before: &[&str], after: Option<&[&str]>) {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let told =
            raw(r#"{"content":{"a":1,"name":"x"},"sender":"@a:b","state_key":"","type":"m.room.name"}"#);
        let left = raw(r#"{"content":{},"sender":"@a:b","state_key":"","type":"m.room.name"}"#);
        assert!(Retelling::new(&told, &told).is_none());
        let row = StrippedRow { state: before.iter().map(|text| raw(text)).collect(), via: Vec::new() };
        let found = Retelling::new(&told, &left).unwrap().of(&row);
        let found: Option<Vec<String>> =
            found.map(|row| row.state.iter().map(|event| event.get().to_owned()).collect());
        let after: Option<Vec<String>> =
            after.map(|after| after.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(found, after, "{before:?}");
    }

    #[test]
    fn what_is_redacted_is_told_without_what_it_said() {
        let other = r#"{"content":{"topic":"x"},"sender":"@a:b","state_key":"","type":"m.room.topic"}"#;
        let later = r#"{"content":{"name":"y"},"sender":"@a:b","state_key":"","type":"m.room.name"}"#;
        let left = r#"{"content":{},"sender":"@a:b","state_key":"","type":"m.room.name"}"#;
        check(&[], None);
        check(&[other, later, "{}"], None);
        // As another server has told it.
        let it = r#"{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"x","a":1}}"#;
        check(&[other, it], Some(&[other, left]));
    }
}
