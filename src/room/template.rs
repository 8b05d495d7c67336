//! Events that other servers are to build for their users: where in the room such an event would stand.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId, events::StateEventType,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    RoomError, Rooms,
    join::{AUTHORISED_VIA, Way},
    membership::member_content,
    stripped,
    turn::{NewEvent, Turn, draft},
};
use crate::{
    dag::{
        Pdu, StateKey, auth,
        build::{draft_state_keys, template},
    },
    history::RoomRow,
    types::Membership,
};

/// What another server needs to build an event.
#[derive(Clone, Debug)]
pub struct Template {
    /// The version of the room.
    pub version: RoomVersionId,
    /// The event without hash, signature and id.
    pub event: CanonicalJsonObject,
}

impl Rooms {
    /// How a membership event that `user`, of another server, makes for themselves would stand in a room
    /// now; `supported` are the room versions that their server knows.
    ///
    /// # Errors
    /// When the room is not here, or the event would not be allowed.
    pub async fn template(
        &self,
        user: &UserId,
        room: &RoomId,
        membership: Membership,
        supported: Option<&[RoomVersionId]>,
    ) -> Result<Template, RoomError> {
        let turn = self.look_into(room).await?;
        let version = turn.row.version.clone();
        if supported.is_some_and(|supported| !supported.contains(&version)) {
            return Err(RoomError::IncompatibleVersion(version));
        }
        let mut content = member_content(membership, None, None);
        if membership == Membership::Join
            && let Some(by) = turn.granter_of(user).await?
        {
            content.insert(String::from(AUTHORISED_VIA), Value::from(by.as_str()));
        }
        let event = NewEvent::state(user, "m.room.member", user.as_str(), &content)?;
        Ok(Template { version, event: turn.template(event).await? })
    }

    /// Our signature for a join that names a member of ours as the one who lets the user in; the event as
    /// it is for any other. It goes nowhere before the event has been accepted.
    ///
    /// # Errors
    /// When that member may not let the user in.
    pub async fn countersign(&self, pdu: &Pdu) -> Result<Box<RawValue>, RoomError> {
        #[derive(Deserialize)]
        struct Content {
            join_authorised_via_users_server: Option<OwnedUserId>,
        }
        let plain = || pdu.json().to_owned();
        let by =
            pdu.content_as::<Content>().ok().and_then(|content| content.join_authorised_via_users_server);
        let Some(by) = by.filter(|by| self.0.history.is_local(by)) else { return Ok(plain()) };
        let turn = self.look_into(pdu.room_id()).await?;
        if !turn.rules.authorization.restricted_join_rule {
            return Ok(plain());
        }
        let is_in =
            matches!(turn.membership(pdu.sender()).await?, Some(Membership::Join | Membership::Invite));
        if !is_in && turn.granter_of(pdu.sender()).await?.is_none() {
            return Err(RoomError::Forbidden(format!("{by} does not let you in")));
        }
        let mut object = pdu.object();
        self.key()
            .sign_event(&mut object, turn.rules)
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        serde_json::value::to_raw_value(&object).map_err(|error| RoomError::BadJson(error.to_string()))
    }

    /// The state that whoever is invited or knocks is shown, as whole events.
    ///
    /// # Errors
    /// When the room is not here.
    pub async fn telling_state(&self, room: &RoomId) -> Result<Vec<Box<RawValue>>, RoomError> {
        let turn = self.look_into(room).await?;
        let told = stripped::told(&turn, &stripped::telling()).await?;
        Ok(told.iter().map(|pdu| pdu.json().to_owned()).collect())
    }

    /// A room as it is, for looking only.
    pub(super) async fn look_into(&self, room: &RoomId) -> Result<Turn, RoomError> {
        let row = self.here(room).await?;
        Ok(Turn::empty(self, OwnedRoomId::from(room), (*row).clone()))
    }

    /// The row of a room that a user of ours is in.
    pub(super) async fn here(&self, room: &RoomId) -> Result<Arc<RoomRow>, RoomError> {
        let row = self.0.history.room(room).await?.filter(|row| row.joined > row.remote);
        row.ok_or(RoomError::NotFound("This server is not in the room"))
    }
}

impl Turn {
    /// The member of ours who lets a user of another server in, where somebody has to.
    async fn granter_of(&self, user: &UserId) -> Result<Option<OwnedUserId>, RoomError> {
        if matches!(self.membership(user).await?, Some(Membership::Join | Membership::Invite)) {
            return Ok(None);
        }
        match self.way_in(user).await? {
            Way::Ordinary => Ok(None),
            Way::Granted(by) => Ok(Some(by)),
            Way::Closed => Err(RoomError::forbidden("You are in none of the rooms that let you in")),
            Way::Unknown => Err(RoomError::UnableToAuthoriseJoin),
        }
    }

    async fn template(&self, event: NewEvent) -> Result<CanonicalJsonObject, RoomError> {
        let draft = draft(&self.rooms, Some(self.room_id.clone()), event);
        let keys: Vec<StateKey> =
            draft_state_keys(&draft, self.rules)?.into_iter().map(StateKey::from).collect();
        let places = self.places(&keys).await?;
        let state = |event_type: &StateEventType, key: &str| places.get(event_type, key);
        let object = template(draft, &self.row.build_heads(), state, self.rules)?;
        let mut probe = object.clone();
        if self.rules.event_format.require_event_id {
            probe.insert(
                String::from("event_id"),
                format!("$template:{}", self.rooms.0.history.server()).into(),
            );
        }
        auth::check_against(&Pdu::from_object(probe, self.rules)?, &self.rules.authorization, state)?;
        Ok(object)
    }
}

/// The content of a member event without what only its server may say.
pub(super) fn without_grant(mut content: Map<String, Value>) -> Map<String, Value> {
    content.remove(AUTHORISED_VIA);
    content
}
