//! What another server says about where an event of ours would stand in the room.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, RoomVersionId, ServerName,
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;

use crate::{
    dag::{
        Head, Pdu,
        build::{build_on, template_heads},
        pdu::create_of_room,
        versions,
    },
    keys,
    limits::{AUTH_EVENTS_MAX, DEPTH_MAX, PREV_EVENTS_MAX},
    room::{
        RoomError, Rooms,
        join::AUTHORISED_VIA,
        turn::{NewEvent, draft},
    },
};

/// The place in a room's graph that another server offers for an event. Nothing else is taken from its
/// template: the event itself is built here.
pub(super) struct Offer {
    pub(super) version: RoomVersionId,
    pub(super) rules: &'static RoomVersionRules,
    /// The member of that server who lets the user in, where the rules know such.
    pub(super) granter: Option<OwnedUserId>,
    heads: Vec<Head>,
    auth: Vec<Head>,
}

impl Offer {
    /// Reads the template that `server` gave for an event in `room`.
    pub(super) fn read(
        server: &ServerName,
        room: &RoomId,
        version: Option<RoomVersionId>,
        template: &RawValue,
    ) -> Result<Self, RoomError> {
        let version = version.unwrap_or(RoomVersionId::V1);
        let rules =
            versions::rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let is_hash = room.server_name().is_none() && create_of_room(room).is_some();
        if is_hash != rules.authorization.room_create_event_id_as_room_id {
            return Err(unsound("the room has another version"));
        }
        let template = keys::parse_object(template.get()).map_err(|_| unsound("the template is no event"))?;
        let depth = template.get("depth").and_then(integer).ok_or_else(|| unsound("there is no depth"))?;
        let depth = depth.clamp(1, DEPTH_MAX) - 1;
        let heads = |field, max, depth| {
            template_heads(&template, (field, max), depth, rules).map_err(|error| unsound(&error.to_string()))
        };
        Ok(Self {
            heads: heads("prev_events", PREV_EVENTS_MAX, depth)?,
            auth: heads("auth_events", AUTH_EVENTS_MAX, 0)?,
            granter: granter(&template, server).filter(|_| rules.authorization.restricted_join_rule),
            version,
            rules,
        })
    }

    /// Builds and signs an event in that place.
    pub(super) fn build(&self, rooms: &Rooms, room: &RoomId, event: NewEvent) -> Result<Pdu, RoomError> {
        let draft = draft(rooms, Some(room.to_owned()), event);
        Ok(build_on(draft, (&self.heads, &self.auth), self.rules, rooms.key())?)
    }

    /// A place right after one event, for an event that goes to nobody.
    pub(super) fn after(pdu: &Pdu, version: RoomVersionId) -> Result<Self, RoomError> {
        let rules =
            versions::rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let head = || vec![Head::of(pdu, rules)];
        Ok(Self { heads: head(), auth: head(), granter: None, version, rules })
    }
}

/// The answer of another server makes no sense.
pub(super) fn unsound(why: &str) -> RoomError {
    RoomError::Unreachable(format!("the answer makes no sense: {why}"))
}

/// A member of another server can let somebody in only by that server's own word.
fn granter(template: &CanonicalJsonObject, server: &ServerName) -> Option<OwnedUserId> {
    let content = template.get("content")?.as_object()?;
    let user = content.get(AUTHORISED_VIA)?.as_str()?;
    OwnedUserId::try_from(user).ok().filter(|user| user.server_name() == server)
}

fn integer(value: &CanonicalJsonValue) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(i64::from(number)).ok())
}
