//! What of a room another server may see.
//!
//! A server sees what any of its users may see by the room's history visibility. Of other events it gets
//! what a redaction would leave, so that it can still follow the graph; and so it does of what was said by
//! users who have been erased before it came.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>,
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use std::collections::HashMap;

use ruma::{OwnedServerName, RoomId, ServerName, UserId, events::StateEventType};
use serde_json::value::RawValue;

use super::{Federation, FederationError};
use crate::{
    dag::{FormatError, StateId, redact::prune, visibility::Visibility},
    history::{History, Status, StoredEvent},
    log::Audience,
    room::RoomError,
    store::StoreError,
    types::{Lane, Membership, Position},
};

/// One server looking into one room; remembers what it has found out.
pub(super) struct Sight {
    history: History,
    server: OwnedServerName,
    states: HashMap<StateId, bool>,
    /// When it came into the room first.
    came: Position,
}

impl Federation {
    /// Lets a server look into a room that one of its users is in. Whether there is another room of that
    /// name is not told.
    pub(super) async fn enter(&self, server: &ServerName, room: &RoomId) -> Result<Sight, FederationError> {
        self.only_inside(server, room).await?;
        if self.history.is_partial(room).await? {
            self.rooms.whole(room).await?;
            // What was said of servers before that was hearsay.
            self.only_inside(server, room).await?;
        }
        let lanes = self.history.log().subscriptions(&Audience::Server(server.to_owned())).await?;
        let came = lanes.intervals(&Lane::Egress(room.to_owned())).first();
        Ok(Sight {
            history: self.history.clone(),
            server: server.to_owned(),
            states: HashMap::new(),
            came: came.map_or(Position::MAX, |interval| interval.opened),
        })
    }

    async fn only_inside(&self, server: &ServerName, room: &RoomId) -> Result<(), FederationError> {
        if !self.history.has_server(room, server).await? {
            return Err(FederationError::Forbidden("The server is not in the room"));
        }
        match self.history.allows_server(room, server).await? {
            true => Ok(()),
            false => Err(FederationError::Forbidden("The room does not let the server take part")),
        }
    }
}

impl Sight {
    /// An event as the server gets it.
    pub(super) async fn show(&mut self, event: &StoredEvent) -> Result<Box<RawValue>, FederationError> {
        let came_late = self.history.erased_at(event.pdu.sender()).is_some_and(|at| self.came > at);
        match !came_late && self.sees(event).await? {
            true => Ok(event.pdu.json().to_owned()),
            false => Ok(prune(&event.pdu, event.rules()).map_err(room_error)?.json().to_owned()),
        }
    }

    async fn sees(&mut self, event: &StoredEvent) -> Result<bool, StoreError> {
        match event.states {
            Some(states) => Ok(self.sees_at(states.before).await? || self.sees_at(states.after).await?),
            // What has no place in the graph is part of states, which servers in the room get whole.
            None => Ok(event.status == Status::Outlier && event.pdu.state_key().is_some()),
        }
    }

    async fn sees_at(&mut self, state: StateId) -> Result<bool, StoreError> {
        if let Some(known) = self.states.get(&state) {
            return Ok(*known);
        }
        let setting = self.history.state_event(state, StateEventType::RoomHistoryVisibility, "").await?;
        let sees = match Visibility::of(setting.as_ref().map(|event| &event.pdu)) {
            // The server is in the room now.
            Visibility::WorldReadable | Visibility::Shared => true,
            Visibility::Invited => self.has_member(state, &[Membership::Join, Membership::Invite]).await?,
            Visibility::Joined => self.has_member(state, &[Membership::Join]).await?,
        };
        self.states.insert(state, sees);
        Ok(sees)
    }

    async fn has_member(&self, state: StateId, kinds: &[Membership]) -> Result<bool, StoreError> {
        let members = self.history.state_of(state, Some(&StateEventType::RoomMember)).await?;
        Ok(members.iter().any(|entry| {
            let user = <&UserId>::try_from(entry.key.state_key.as_str());
            user.is_ok_and(|user| user.server_name() == self.server)
                && entry.value.membership.is_some_and(|membership| kinds.contains(&membership))
        }))
    }
}

fn room_error(error: FormatError) -> FederationError {
    FederationError::Room(RoomError::from(error))
}
