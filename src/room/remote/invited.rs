//! Invites of our users by users of other servers, and the withdrawal of such.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::outside::{Outside, cleaned};
use crate::{
    dag::{Pdu, versions},
    history::tables::StrippedRow,
    limits::TRANSACTION_PDUS_MAX,
    room::{ReceiveFailure, RoomError, Rooms},
    types::Membership,
};

/// An invite as another server hands it over.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The version of the room.
    pub version: RoomVersionId,
    /// The event.
    pub event: Box<RawValue>,
    /// What it tells of the room.
    pub state: Vec<Box<RawValue>>,
}

impl Rooms {
    /// Takes an invite from `origin`, for the room and with the id that it names beside it; has the user
    /// know of it, and gives the event back with our signature. Whether the user has an account here is
    /// for the caller to know.
    ///
    /// # Errors
    /// When it is not an invite of a user of ours by a user of `origin`, or the room does not allow it.
    pub async fn receive_invite(
        &self,
        origin: &ServerName,
        named: (&RoomId, &EventId),
        invitation: Invitation,
    ) -> Result<CanonicalJsonObject, RoomError> {
        let Invitation { version, event, state } = invitation;
        let rules =
            versions::rules(&version).ok_or_else(|| RoomError::IncompatibleVersion(version.clone()))?;
        let pdu = Pdu::parse(event.get(), rules)?;
        let user = invited(&pdu, named, origin)?;
        if !self.0.history.is_local(&user) {
            return Err(RoomError::invalid("The invited user is not of this server"));
        }
        self.check_open(named.0).await?;
        self.check_invitable(&user, pdu.sender(), Some(named.0)).await?;
        check_create(&state, named.0, rules)?;
        self.check_signatures(&pdu, rules).await?;
        let is_here = self.is_here(named.0).await?;
        if is_here {
            self.check_allowed(&user, &pdu).await?;
        }
        let mut object = pdu.object();
        self.key().sign_event(&mut object, rules).map_err(|error| RoomError::BadJson(error.to_string()))?;
        let event = Pdu::from_object(object.clone(), rules)?;
        if !is_here {
            let stripped = StrippedRow { state: cleaned(&state, &event)?, via: vec![origin.to_owned()] };
            let membership = Membership::Invite;
            self.note_outside(&Outside {
                user,
                version,
                event,
                membership,
                stripped: Some(stripped),
                farewell: None,
            })
            .await?;
        }
        Ok(object)
    }

    /// Takes what concerns our users in events of a room that this server is not in: an invite withdrawn,
    /// a knock turned down. Everything else is refused.
    pub(in crate::room) async fn receive_outside(
        &self,
        room: &RoomId,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<BTreeMap<OwnedEventId, Result<(), ReceiveFailure>>, RoomError> {
        let mut results = BTreeMap::new();
        for text in pdus.into_iter().take(TRANSACTION_PDUS_MAX) {
            if let Some(id) = self.take_withdrawal(room, text).await? {
                results.insert(id, Ok(()));
            }
        }
        Ok(results)
    }

    async fn take_withdrawal(
        &self,
        room: &RoomId,
        text: Box<RawValue>,
    ) -> Result<Option<OwnedEventId>, RoomError> {
        let Some((user, membership)) = glance(&text) else { return Ok(None) };
        let history = &self.0.history;
        if !history.is_local(&user) || !matches!(membership, Membership::Leave | Membership::Ban) {
            return Ok(None);
        }
        let Some(standing) = history.standing(&user, room).await? else { return Ok(None) };
        if !matches!(standing.membership, Membership::Invite | Membership::Knock) {
            return Ok(None);
        }
        let Some(before) = history.event(&standing.event_id).await? else { return Ok(None) };
        let Some(rules) = versions::rules(&before.version) else { return Ok(None) };
        let checked = self.check(room, rules, vec![text]).await?;
        let Some(event) = checked.events.into_iter().next().map(|signed| signed.pdu().clone()) else {
            return Ok(None);
        };
        // Without the room's state there is no telling who else may do it.
        let knocks = standing.membership == Membership::Knock;
        let via = if knocks { history.stripped_via(&user, room).await? } else { Vec::new() };
        let may = event.sender() == before.pdu.sender()
            || via.iter().any(|server| server == event.sender().server_name());
        if !may || event.state_key() != Some(user.as_str()) || event.membership() != Some(membership) {
            return Ok(None);
        }
        let id = event.event_id().to_owned();
        let version = before.version.clone();
        self.note_outside(&Outside { user, version, event, membership, stripped: None, farewell: None })
            .await?;
        Ok(Some(id))
    }

    /// The event must be signed by who must sign it, and be whole.
    async fn check_signatures(&self, pdu: &Pdu, rules: &'static RoomVersionRules) -> Result<(), RoomError> {
        match self.is_signed(pdu, rules).await? {
            true => Ok(()),
            false => Err(RoomError::forbidden("The event is not signed as it must be")),
        }
    }

    /// In a room that this server is in, whoever is in it or banned from it cannot be invited. The rest is
    /// for the room to say when the event comes: our view of it may lag behind that of the sender.
    async fn check_allowed(&self, user: &UserId, pdu: &Pdu) -> Result<(), RoomError> {
        match self.look_into(pdu.room_id()).await?.membership(user).await? {
            Some(Membership::Join | Membership::Ban) => {
                Err(RoomError::forbidden("The user is in the room already, or banned from it"))
            }
            _ => Ok(()),
        }
    }
}

/// Whom the event invites, if it is an invite by a user of `origin` and the one that was named.
fn invited(
    pdu: &Pdu,
    (room, id): (&RoomId, &EventId),
    origin: &ServerName,
) -> Result<OwnedUserId, RoomError> {
    let refuse = |why: &str| Err(RoomError::invalid(why));
    if pdu.room_id() != room {
        return refuse("The event is of another room");
    }
    if pdu.event_id() != id {
        return refuse("The event has another id");
    }
    if *pdu.event_type() != TimelineEventType::RoomMember || pdu.membership() != Some(Membership::Invite) {
        return refuse("The event is no invite");
    }
    if pdu.sender().server_name() != origin {
        return refuse("The sender is of another server");
    }
    let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
    user.map(ToOwned::to_owned).ok_or_else(|| RoomError::invalid("The state key is no user id"))
}

/// Where the room is named after its create event, a create event that is told must be that one.
fn check_create(state: &[Box<RawValue>], room: &RoomId, rules: &RoomVersionRules) -> Result<(), RoomError> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "type")]
        kind: String,
        signatures: Option<serde::de::IgnoredAny>,
    }
    if !rules.authorization.room_create_event_id_as_room_id {
        return Ok(());
    }
    for text in state {
        let Ok(told) = serde_json::from_str::<Told>(text.get()) else { continue };
        if told.kind != "m.room.create" || told.signatures.is_none() {
            continue;
        }
        let is_it = Pdu::parse(text.get(), rules).is_ok_and(|create| create.room_id() == room);
        if !is_it {
            return Err(RoomError::invalid("The create event is of another room"));
        }
    }
    Ok(())
}

/// Whose membership a text claims to set, and to what.
fn glance(text: &RawValue) -> Option<(OwnedUserId, Membership)> {
    #[derive(Deserialize)]
    struct Glance {
        #[serde(rename = "type")]
        kind: String,
        state_key: OwnedUserId,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let glance: Glance = serde_json::from_str(text.get()).ok()?;
    let membership = Membership::parse(&glance.content.membership)?;
    (glance.kind == "m.room.member").then_some((glance.state_key, membership))
}
