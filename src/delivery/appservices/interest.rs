//! Which events an application service wants to hear of.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#pushing-events>

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{
    appservice::Appservice,
    dag::StateId,
    history::{History, StoredEvent},
    limits::APPSERVICE_ROOMS_CACHED,
    store::StoreError,
    types::Membership,
};

/// Who of the namespace is in which room, followed event by event from where a room was first met.
#[derive(Debug, Default)]
pub(super) struct Interests {
    rooms: HashMap<OwnedRoomId, Room>,
    /// Rooms whose aliases have been looked at for this page.
    looked_at: HashSet<OwnedRoomId>,
}

#[derive(Debug, Default)]
struct Room {
    /// Joined users of the namespace.
    joined: BTreeSet<OwnedUserId>,
    /// The room itself, or an alias of it, is in the namespaces.
    is_named: bool,
}

impl Interests {
    /// Another page begins. Aliases are no part of a room's state, so they are looked at for each.
    pub(super) fn turn_page(&mut self) {
        self.looked_at.clear();
    }

    /// Whether `event`, the next one of its room, is wanted.
    pub(super) async fn wants(
        &mut self,
        (history, to): (&History, &Appservice),
        event: &StoredEvent,
    ) -> Result<bool, StoreError> {
        let pdu = &event.pdu;
        let room_id = pdu.room_id();
        if !self.rooms.contains_key(room_id) {
            if self.rooms.len() >= APPSERVICE_ROOMS_CACHED {
                self.rooms.clear();
            }
            let state = event.states.map_or(StateId::EMPTY, |states| states.before);
            let room = Room::look((history, to), room_id, state).await?;
            self.rooms.insert(room_id.to_owned(), room);
            self.looked_at.insert(room_id.to_owned());
        }
        let Some(room) = self.known((history, to), room_id).await? else { return Ok(false) };
        let target = pdu.state_key().filter(|_| pdu.membership().is_some());
        let target = target.and_then(|key| <&UserId>::try_from(key).ok()).filter(|user| to.owns(user));
        let wanted = room.is_named || !room.joined.is_empty() || target.is_some() || to.owns(pdu.sender());
        if let (Some(user), Some(membership)) = (target, pdu.membership()) {
            if membership == Membership::Join {
                room.joined.insert(user.to_owned());
            } else {
                room.joined.remove(user);
            }
        }
        Ok(wanted)
    }

    /// Whether what is not an event is wanted of a room now.
    pub(super) async fn wants_room(
        &mut self,
        (history, to): (&History, &Appservice),
        room_id: &RoomId,
    ) -> Result<bool, StoreError> {
        if let Some(room) = self.known((history, to), room_id).await? {
            return Ok(room.is_named || !room.joined.is_empty());
        }
        let state = history.current_state(room_id).await?.unwrap_or(StateId::EMPTY);
        let room = Room::look((history, to), room_id, state).await?;
        // It is not kept: the events up to here have not been seen.
        Ok(room.is_named || !room.joined.is_empty())
    }

    /// What is known of a room, with its aliases as they are in this page.
    async fn known(
        &mut self,
        (history, to): (&History, &Appservice),
        room_id: &RoomId,
    ) -> Result<Option<&mut Room>, StoreError> {
        let Some(room) = self.rooms.get_mut(room_id) else { return Ok(None) };
        if self.looked_at.insert(room_id.to_owned()) {
            room.is_named = is_named((history, to), room_id).await?;
        }
        Ok(Some(room))
    }

    /// Who is in the rooms of this page was followed too far: they are looked at again.
    pub(super) fn take_page_back(&mut self) {
        for room in &self.looked_at {
            self.rooms.remove(room);
        }
    }

    /// The state of a room has moved by itself: who is in it is looked at again.
    pub(super) fn forget(&mut self, room_id: &RoomId) {
        self.rooms.remove(room_id);
    }
}

impl Room {
    async fn look(
        (history, to): (&History, &Appservice),
        room_id: &RoomId,
        state: StateId,
    ) -> Result<Self, StoreError> {
        let members = history.members(room_id, state).await?;
        let joined = members.with(Membership::Join).filter(|user| to.owns(user)).cloned().collect();
        Ok(Self { joined, is_named: is_named((history, to), room_id).await? })
    }
}

async fn is_named((history, to): (&History, &Appservice), room_id: &RoomId) -> Result<bool, StoreError> {
    if to.wants_room(room_id) {
        return Ok(true);
    }
    if to.namespaces.aliases.is_empty() {
        return Ok(false);
    }
    let aliases = history.aliases(room_id).await?;
    Ok(aliases.iter().any(|alias| to.namespaces.aliases.matches(alias.as_str())))
}
