//! Joining a room through another server.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::collections::BTreeSet;

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedServerSigningKeyId, OwnedUserId, RoomId, RoomVersionId, ServerName,
    UserId,
    api::federation::membership::{create_join_event, prepare_join_event},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use tokio::time::Instant;

use super::{
    ask::Refusals,
    offer::{Offer, unsound},
};
use crate::{
    dag::{Pdu, Signed, versions},
    keys,
    limits::{JOIN_MAX, PARTIAL_SERVERS_MAX, SEND_JOIN_MAX, STATE_ANSWER_BYTES_MAX},
    peer::{Bounds, Hedge, Validity, Wanted},
    room::{
        Graft, RoomError, Rooms,
        join::{AUTHORISED_VIA, join_content},
        template::without_grant,
        turn::NewEvent,
        until_settled,
    },
};

/// Who wants to join what, and what they say with it.
struct Errand {
    user: OwnedUserId,
    room: OwnedRoomId,
    content: Map<String, Value>,
}

impl Rooms {
    /// Joins a room, if need be through one of the servers `via` or another that is known to be in it.
    /// `extra` goes into the member event; a name or a picture in it goes before that of the profile.
    ///
    /// # Errors
    /// Why the user cannot join.
    pub async fn enter(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        (reason, extra): (Option<&str>, Map<String, Value>),
    ) -> Result<(), RoomError> {
        self.check_open(room).await?;
        self.check_welcome(user, room).await?;
        let mut refusals = Refusals::default();
        // Who is not let in shows only once the members are known. Other servers know them.
        if self.is_here(room).await? && !self.0.history.is_partial(room).await? {
            match self.join(user, room, reason, extra.clone()).await {
                // Somebody of another server may have the power that ours lack.
                Err(error @ RoomError::UnableToGrantJoin) => refusals = Refusals::after(error),
                settled => return settled,
            }
        }
        // Whether a room wants guests shows only from within.
        if self.0.profiles.is_guest(user).await? {
            return Err(RoomError::GuestsForbidden);
        }
        let profile = self.0.profiles.profile(user).await?;
        let content = join_content(without_grant(extra), &profile, reason);
        let servers = self.sources(user, room, via).await?;
        let errand = Errand { user: user.to_owned(), room: room.to_owned(), content };
        // Once the other server has been told, its answer must be kept even if the client goes away.
        let rooms = self.clone();
        let task = self.0.tasks.spawn(async move { rooms.join_by(servers, &errand, refusals).await });
        task.await.map_err(|_| RoomError::Closed)?
    }

    async fn join_by(
        &self,
        servers: Vec<OwnedServerName>,
        errand: &Errand,
        mut refusals: Refusals,
    ) -> Result<(), RoomError> {
        let _turn = self.0.joins.lock(&errand.room).await;
        if self.0.history.is_joined(&errand.room, &errand.user).await? {
            return Ok(());
        }
        let (room, user) = (&errand.room, &errand.user);
        let mut request = prepare_join_event::v1::Request::new(room.clone(), user.clone());
        request.ver = versions::SUPPORTED.to_vec();
        let mut hedge = Hedge::new(&self.0.peers, servers);
        let until = Instant::now() + JOIN_MAX;
        while let Some((server, template)) = self.next_template(&mut hedge, &request, until).await {
            // Only one server is handed the join at a time: each takes it as one of its own.
            let done = match template {
                Ok(template) => Box::pin(self.join_through((&server, until), errand, template)).await,
                Err(error) => Err(error),
            };
            let Err(error) = done else {
                return until_settled!(self.inherit_from_predecessor(room, user));
            };
            tracing::info!(
                room.id = %room, user.id = %user, server.name = %server, %error,
                "{user} could not join {room} through {server}"
            );
            refusals.note(error)?;
        }
        Err(refusals.into_error())
    }

    async fn join_through(
        &self,
        (server, until): (&ServerName, Instant),
        errand: &Errand,
        answer: prepare_join_event::v1::Response,
    ) -> Result<(), RoomError> {
        let Errand { user, room, content } = errand;
        let peers = &self.0.peers;
        let offer = Offer::read(server, room, answer.room_version, &answer.event)?;
        let mut content = content.clone();
        if let Some(granter) = &offer.granter {
            content.insert(String::from(AUTHORISED_VIA), Value::from(granter.as_str()));
        }
        let event = NewEvent::state(user, "m.room.member", user.as_str(), &content)?;
        let event = offer.build(self, room, event)?;
        let id = event.event_id().to_owned();
        let mut request = create_join_event::v2::Request::new(room.clone(), id, event.json().to_owned());
        // A room that users of ours are in already is resolved with the state that is given.
        request.omit_members = !self.is_here(room).await? || self.0.history.is_partial(room).await?;
        let left = until.saturating_duration_since(Instant::now());
        let bounds = Bounds::new(SEND_JOIN_MAX.min(left), STATE_ANSWER_BYTES_MAX);
        let answer = peers.call(server, request, bounds).await?.room_state;
        let event = match (&offer.granter, &answer.event) {
            (None, _) => event,
            (Some(_), Some(signed)) => self.with_signature_of(server, event, (signed, offer.rules)).await?,
            (Some(_), None) => return Err(unsound("the join is not signed by who lets the user in")),
        };
        check_version(&answer.state, &offer.version)?;
        let named = answer.servers_in_room.into_iter().flatten().take(PARTIAL_SERVERS_MAX);
        let servers = named.filter_map(|name| OwnedServerName::try_from(name).ok());
        let servers = servers.filter(|server| server != self.0.history.server()).collect();
        let graft = Graft {
            origin: server.to_owned(),
            version: offer.version,
            event,
            state: answer.state,
            auth_chain: answer.auth_chain,
            omitted: answer.members_omitted.then_some(servers),
        };
        Box::pin(self.graft(graft)).await
    }

    /// An event of ours with the signature that `server` has put on it. Nothing else is taken from the
    /// signed copy.
    pub(super) async fn with_signature_of(
        &self,
        server: &ServerName,
        event: Pdu,
        (signed, rules): (&RawValue, &'static ruma::room_version_rules::RoomVersionRules),
    ) -> Result<Pdu, RoomError> {
        let unsigned = || unsound("the event is not signed");
        let signed = keys::parse_object(signed.get()).map_err(|_| unsigned())?;
        let theirs = signed.get("signatures").and_then(|all| all.as_object());
        let theirs = theirs.and_then(|all| all.get(server.as_str())).ok_or_else(unsigned)?;
        let ids = theirs.as_object().into_iter().flatten().map(|(id, _)| id.clone());
        let ids: BTreeSet<OwnedServerSigningKeyId> = ids.filter_map(|id| id.try_into().ok()).collect();
        let mut object = event.object();
        let ours = object.get_mut("signatures").and_then(|all| all.as_object_mut());
        ours.ok_or_else(unsigned)?.insert(server.to_string(), theirs.clone());
        let event = Pdu::from_object(object, rules)?;
        let wanted = Wanted::from([(server.to_owned(), ids)]);
        let mut known = self.0.peers.keys(wanted, Validity::of(rules, event.origin_server_ts())).await;
        known.extend(self.key().public_keys());
        let checked = Signed::verify(event.clone(), &known, rules);
        let checked = checked.map_err(|error| unsound(&error.to_string()))?;
        match *checked.pdu() == event {
            true => Ok(event),
            false => Err(unsigned()),
        }
    }
}

/// A create event that names another version than the template did is not that of the room.
fn check_version(state: &[Box<RawValue>], version: &RoomVersionId) -> Result<(), RoomError> {
    #[derive(Deserialize)]
    struct Create {
        #[serde(rename = "type")]
        kind: String,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<RoomVersionId>,
    }
    let creates = state.iter().filter(|text| text.get().contains("m.room.create"));
    let creates = creates.filter_map(|text| serde_json::from_str::<Create>(text.get()).ok());
    let named = |create: Create| create.content.room_version.unwrap_or(RoomVersionId::V1);
    let mut creates = creates.filter(|create| create.kind == "m.room.create").map(named);
    match creates.all(|named| named == *version) {
        true => Ok(()),
        false => Err(unsound("the room has another version")),
    }
}
