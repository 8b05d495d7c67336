//! Setting state, and who may look at it.

use std::collections::BTreeSet;

use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    RoomError, Rooms, Txn,
    join::AUTHORISED_VIA,
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::{dag::Pdu, log::OnceKey, types::Membership};

impl Rooms {
    /// Sets a state event; answers with its id. Setting what the user has set there last changes
    /// nothing.
    ///
    /// # Errors
    /// Why it cannot be set.
    pub async fn set_state(
        &self,
        user: &UserId,
        room: &RoomId,
        place: (&StateEventType, &str),
        content: Box<RawValue>,
    ) -> Result<OwnedEventId, RoomError> {
        if *place.0 == StateEventType::RoomMember {
            return self.set_member(user, room, place.1, &content).await;
        }
        until_settled!(self.try_set_state(user, room, place, (&content, None)))
    }

    /// As [`Self::set_state`]; a repeated transaction takes effect once.
    ///
    /// # Errors
    /// Why it cannot be set.
    pub(super) async fn set_state_once(
        &self,
        user: &UserId,
        room: &RoomId,
        place: (&StateEventType, &str),
        (content, txn): (&RawValue, &Txn),
    ) -> Result<OwnedEventId, RoomError> {
        let once = self.once(user, Some(txn), &format!("state/{room}/{}/{}", place.0, place.1));
        if let Some(answer) = self.answered(once.as_ref()).await? {
            return Ok(answer);
        }
        let once = once.map(|once| (txn, once));
        until_settled!(self.try_set_state(user, room, place, (content, once.clone())))
    }

    pub(super) async fn try_set_state(
        &self,
        user: &UserId,
        room: &RoomId,
        (event_type, state_key): (&StateEventType, &str),
        (content, once): (&RawValue, Option<(&Txn, OnceKey)>),
    ) -> Result<OwnedEventId, RoomError> {
        if *event_type == StateEventType::RoomCreate {
            return Err(RoomError::invalid("A room is created once"));
        }
        if *event_type == StateEventType::RoomMember {
            self.check_place(room, (user, state_key), content).await?;
        }
        if let Some(invited) = self.invites_remote((event_type, state_key), content) {
            let content: Map<String, Value> =
                serde_json::from_str(content.get()).map_err(|error| RoomError::BadJson(error.to_string()))?;
            return self.invite_remote(user, room, &invited, content).await;
        }
        if *event_type == StateEventType::RoomMember
            && let Some(invited) = invitee(state_key, content)
        {
            self.check_invitable(&invited, user, Some(room)).await?;
        }
        let confirmed = match event_type {
            StateEventType::RoomCanonicalAlias => self.confirmed(user, room, content).await?,
            _ => BTreeSet::new(),
        };
        let mut turn = Turn::begin_as_member(self, room).await?;
        let content = match event_type {
            StateEventType::RoomMember => without(content, AUTHORISED_VIA)?,
            _ => content.to_owned(),
        };
        let event = NewEvent {
            state_key: Some(String::from(state_key)),
            txn: once.as_ref().map(|(txn, _)| (txn.device.to_string(), txn.id.clone())),
            ..NewEvent::message(user, TimelineEventType::from(event_type.to_string()), content)
        };
        if *event_type == StateEventType::RoomPowerLevels {
            turn.check_power_levels(&event).await?;
        }
        if *event_type == StateEventType::RoomCanonicalAlias {
            turn.check_canonical_alias(&event, &confirmed).await?;
        }
        let id = turn.add_state(event).await?;
        match turn.written.is_empty() {
            true => Ok(id),
            false => turn.finish(once.map(|(_, once)| once)).await,
        }
    }
}

impl Rooms {
    /// Refuses a membership that is not to be written here: of a room that is blocked, or one's own in a room whose
    /// events this server does not have.
    async fn check_place(
        &self,
        room: &RoomId,
        (user, state_key): (&UserId, &str),
        content: &RawValue,
    ) -> Result<(), RoomError> {
        if !matches!(membership(content), Some(Membership::Leave | Membership::Ban)) {
            self.check_open(room).await?;
        }
        if matches!(membership(content), Some(Membership::Join | Membership::Knock)) {
            self.check_welcome(user, room).await?;
        }
        match state_key == user.as_str() && !self.is_here(room).await? {
            true => Err(RoomError::forbidden("You are not in the room")),
            false => Ok(()),
        }
    }

    /// The user of another server whom a state event invites; their server must have a say in it.
    fn invites_remote(
        &self,
        (event_type, state_key): (&StateEventType, &str),
        content: &RawValue,
    ) -> Option<OwnedUserId> {
        let is_member = *event_type == StateEventType::RoomMember;
        let user = is_member.then(|| invitee(state_key, content)).flatten();
        user.filter(|user| !self.0.history.is_local(user))
    }
}

impl Turn {
    /// Creators whose power has no bounds are given none.
    ///
    /// <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>
    async fn check_power_levels(&self, event: &NewEvent) -> Result<(), RoomError> {
        #[derive(Deserialize)]
        struct Levels {
            #[serde(default)]
            users: Map<String, Value>,
        }
        if !self.rules.authorization.explicitly_privilege_room_creators {
            return Ok(());
        }
        let levels: Levels = serde_json::from_str(event.content.get())
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        match self.creators().await?.iter().any(|creator| levels.users.contains_key(creator.as_str())) {
            true => {
                Err(RoomError::invalid("The creators of the room cannot be among the users with a level"))
            }
            false => Ok(()),
        }
    }

    /// Every alias that is new must be one of this room; of those of other servers it is known which are.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias>
    async fn check_canonical_alias(
        &self,
        event: &NewEvent,
        confirmed: &BTreeSet<OwnedRoomAliasId>,
    ) -> Result<(), RoomError> {
        let wanted = aliases(&event.content)?;
        let present = self.place("m.room.canonical_alias", "").await?;
        let present = present.map(|pdu: Pdu| aliases(pdu.content()).unwrap_or_default()).unwrap_or_default();
        for alias in wanted.difference(&present).filter(|alias| !confirmed.contains(*alias)) {
            let row = self.rooms.0.history.alias(alias).await?;
            if row.is_none_or(|row| row.room_id != self.room_id) {
                return Err(RoomError::BadAlias(format!("{alias} does not point to this room")));
            }
        }
        Ok(())
    }
}

/// Whom the content of an `m.room.member` event at this key invites.
fn invitee(state_key: &str, content: &RawValue) -> Option<OwnedUserId> {
    let is_invite = membership(content) == Some(Membership::Invite);
    OwnedUserId::try_from(state_key).ok().filter(|_| is_invite)
}

/// What the content of an `m.room.member` event makes of its user.
pub(super) fn membership(content: &RawValue) -> Option<Membership> {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let content: Content = serde_json::from_str(content.get()).ok()?;
    Membership::parse(&content.membership)
}

/// A content without one of its fields.
fn without(content: &RawValue, field: &str) -> Result<Box<RawValue>, RoomError> {
    let bad = |error: serde_json::Error| RoomError::BadJson(error.to_string());
    let mut content: Map<String, Value> = serde_json::from_str(content.get()).map_err(bad)?;
    content.remove(field);
    serde_json::value::to_raw_value(&content).map_err(bad)
}

/// The aliases that the content of an `m.room.canonical_alias` event names.
pub(super) fn aliases(content: &RawValue) -> Result<BTreeSet<OwnedRoomAliasId>, RoomError> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default)]
        alias: Option<Value>,
        #[serde(default)]
        alt_aliases: Option<Value>,
    }
    let malformed = || RoomError::invalid("An alias is malformed");
    let content: Content = serde_json::from_str(content.get()).map_err(|_| malformed())?;
    let mut texts = Vec::new();
    match content.alias {
        // Older clients write an empty text for none.
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => texts.push(text),
        Some(_) => return Err(malformed()),
    }
    match content.alt_aliases {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                texts.push(item.as_str().map(String::from).ok_or_else(malformed)?);
            }
        }
        Some(_) => return Err(malformed()),
    }
    texts.into_iter().map(|text| OwnedRoomAliasId::try_from(text).map_err(|_| malformed())).collect()
}
