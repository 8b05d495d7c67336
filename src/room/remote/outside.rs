//! What users of ours are to rooms that this server is not in.

use ruma::{OwnedUserId, RoomVersionId, UserId, api::federation::membership::RawStrippedState};
use serde_json::{Value, json, value::RawValue};

use crate::{
    dag::Pdu,
    history::{
        EventNotes, Status, StoredEvent, stripped,
        tables::{FAREWELLS, FORGOTTEN, FarewellRow, STRIPPED, StrippedRow},
        tame,
    },
    limits::{STRIPPED_BYTES_MAX, STRIPPED_EVENTS_MAX},
    log::Commit,
    room::{RoomError, Rooms, until_settled},
    types::{Fact, Lane, Membership, Position},
};

/// A membership event of a room whose events this server does not have.
pub(super) struct Outside {
    pub(super) user: OwnedUserId,
    pub(super) version: RoomVersionId,
    pub(super) event: Pdu,
    pub(super) membership: Membership,
    /// For an invite or a knock: what the user may know of the room.
    pub(super) stripped: Option<StrippedRow>,
    /// For a leave: what other servers could not be told yet.
    pub(super) farewell: Option<FarewellRow>,
}

impl Rooms {
    /// Has the user know of it.
    pub(super) async fn note_outside(&self, note: &Outside) -> Result<(), RoomError> {
        until_settled!(self.try_note_outside(note))
    }

    async fn try_note_outside(&self, note: &Outside) -> Result<(), RoomError> {
        let history = &self.0.history;
        let (room_id, event_id) = (note.event.room_id().to_owned(), note.event.event_id().to_owned());
        let mut commit = Commit::new();
        if history.event(&event_id).await?.is_none() {
            let event = StoredEvent {
                pdu: note.event.clone(),
                position: Position::ZERO,
                status: Status::Outlier,
                version: note.version.clone(),
                states: None,
                notes: EventNotes::default(),
            };
            event.expect_absent(&mut commit);
            event.record(&mut commit);
        }
        let key = (note.user.clone(), room_id.clone());
        match &note.stripped {
            Some(row) => commit.put(&STRIPPED, &key, row),
            None => commit.delete(&STRIPPED, &key),
        }
        match &note.farewell {
            Some(row) => commit.put(&FAREWELLS, &key, row),
            None => commit.delete(&FAREWELLS, &key),
        }
        if matches!(note.membership, Membership::Invite | Membership::Knock) {
            commit.delete(&FORGOTTEN, &key);
        }
        let fact = Fact::Membership { room_id, membership: note.membership, event_id };
        commit.fact(Lane::Account(note.user.clone()), fact);
        history.log().commit(commit).await?;
        Ok(())
    }
}

/// What another server tells of a room, fit for clients: well-formed stripped state events, within bounds,
/// and `event` itself at the end.
pub(super) fn cleaned(told: &[Box<RawValue>], event: &Pdu) -> Result<Vec<Box<RawValue>>, RoomError> {
    let mut state = Vec::new();
    let mut left = STRIPPED_BYTES_MAX;
    for told in told.iter().take(STRIPPED_EVENTS_MAX) {
        if told.get().len() > left {
            continue;
        }
        let Some(clean) = clean(told, event) else { continue };
        left = left.saturating_sub(clean.get().len());
        state.push(clean);
    }
    state.push(stripped(event)?);
    Ok(state)
}

fn clean(told: &RawValue, event: &Pdu) -> Option<Box<RawValue>> {
    let told: Value = serde_json::from_str(told.get()).ok()?;
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let (kind, key, sender) = (text("type")?, text("state_key")?, text("sender")?);
    <&UserId>::try_from(sender).ok()?;
    let is_elsewhere = text("room_id").is_some_and(|room| room != event.room_id().as_str());
    let is_itself = kind == "m.room.member" && Some(key) == event.state_key();
    if is_elsewhere || is_itself {
        return None;
    }
    let content = told.get("content").filter(|content| content.is_object())?.to_string();
    let content: Value = serde_json::from_str(&tame(&kind.into(), &content)).ok()?;
    let mut clean = json!({ "type": kind, "state_key": key, "sender": sender, "content": content });
    if kind == "m.room.create"
        && let Some(ts) = told.get("origin_server_ts").filter(|ts| ts.is_u64())
    {
        clean["origin_server_ts"] = ts.clone();
        clean["room_id"] = event.room_id().as_str().into();
    }
    serde_json::value::to_raw_value(&clean).ok()
}

/// The text of a state event, in whichever form it came.
#[expect(deprecated, reason = "servers of older versions of the specification send the other form")]
#[must_use]
pub(super) fn text_of(state: &RawStrippedState) -> Box<RawValue> {
    match state {
        RawStrippedState::Stripped(raw) => raw.json().to_owned(),
        RawStrippedState::Pdu(json) => json.clone(),
    }
}
