//! Users of other servers join.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, events::StateEventType};
use serde_json::value::RawValue;

use super::HandedOver;
use crate::{
    dag::StateId,
    federation::{Federation, FederationError},
    history::StoredEvent,
    limits::SYNC_HEROES_MAX,
    store::StoreError,
    types::Membership,
};

/// A room as it was before a join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The join, with all its signatures.
    pub event: Box<RawValue>,
    /// The state.
    pub state: Vec<Arc<StoredEvent>>,
    /// What allows the state and the join.
    pub auth_chain: Vec<Arc<StoredEvent>>,
    /// The servers in the room.
    pub servers: BTreeSet<OwnedServerName>,
    /// Most member events are left out of the state.
    pub members_omitted: bool,
}

impl Federation {
    /// Brings a join into the room. With `omit_members` the state has few of the member events.
    ///
    /// # Errors
    /// When it is not a join of a user of that server, or the room does not allow it.
    pub async fn send_join(
        &self,
        given: HandedOver<'_>,
        omit_members: bool,
    ) -> Result<Joined, FederationError> {
        let pdu = self.own_membership(given, Membership::Join).await?;
        let text = self.rooms.countersign(&pdu).await?;
        let id = self.rooms.receive_for(given.origin, given.room, text).await?;
        let event = self.history.event(&id).await?;
        let before = event.as_ref().and_then(|event| event.states).map(|states| states.before);
        let (Some(event), Some(before)) = (event, before) else {
            return Err(FederationError::NotFound("The room is gone"));
        };
        self.joined(&event, before, omit_members).await.map_err(Into::into)
    }

    async fn joined(
        &self,
        event: &Arc<StoredEvent>,
        before: StateId,
        omit_members: bool,
    ) -> Result<Joined, StoreError> {
        let history = &self.history;
        let entries = history.state_of(before, None).await?;
        let members = entries.iter().filter(|entry| entry.key.event_type == StateEventType::RoomMember);
        let joined = members.filter(|entry| entry.value.membership == Some(Membership::Join));
        let joined: Vec<OwnedUserId> =
            joined.filter_map(|entry| OwnedUserId::try_from(entry.key.state_key.as_str()).ok()).collect();
        let servers = joined.iter().map(|user| user.server_name().to_owned()).collect();
        let mut named: HashSet<&str> = HashSet::from([event.pdu.sender().as_str()]);
        let is_named = |kind: StateEventType| entries.iter().any(|entry| entry.key.event_type == kind);
        if !is_named(StateEventType::RoomName) && !is_named(StateEventType::RoomCanonicalAlias) {
            named.extend(joined.iter().map(|user| user.as_str()).take(SYNC_HEROES_MAX));
        }
        let is_wanted = |entry: &&crate::dag::tree::Entry| {
            !omit_members
                || entry.key.event_type != StateEventType::RoomMember
                || named.contains(entry.key.state_key.as_str())
        };
        let ids: Vec<OwnedEventId> =
            entries.iter().filter(is_wanted).map(|entry| entry.value.event_id.clone()).collect();
        let state: Vec<Arc<StoredEvent>> = history.events(&ids).await?.into_iter().flatten().collect();
        let of: Vec<Arc<StoredEvent>> = state.iter().chain([event]).cloned().collect();
        let left_out: HashSet<OwnedEventId> = match omit_members {
            true => ids.into_iter().collect(),
            false => HashSet::new(),
        };
        let auth_chain = history.auth_chain(&of, &left_out).await?;
        let event = event.pdu.json().to_owned();
        Ok(Joined { event, state, auth_chain, servers, members_omitted: omit_members })
    }
}
